"""What requests and answers look like, apart from the tables."""
