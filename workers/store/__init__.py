"""What is kept by content: folders, and evidence in them."""
