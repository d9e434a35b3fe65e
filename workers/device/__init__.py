"""What runs on the device: loading models, forward passes, evidence."""
