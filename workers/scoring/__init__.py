"""Metrics and ensembles from stored evidence."""
