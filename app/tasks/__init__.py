"""What is asked of images: a task is one file that says what a target, a sample and evidence are for it."""
