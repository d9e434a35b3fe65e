"""Labelled images: reading, indexing, sampling, and decoding each of them once."""
