"""Transferability estimators: arrays in, a Score out."""
