"""What runs beside a GPU: reads images, runs models, scores evidence."""
