"""What scores of several models say together: consensus, resampling, agreement."""
