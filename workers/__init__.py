"""What runs next to a GPU: reads images, runs models, scores evidence."""
