"""Metrics of arrays, in one way for rankings and for what clients send."""
