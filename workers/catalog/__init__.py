"""What is known of timm's pre-trained models without loading any weights."""
