"""Ensembles of models: their terms, their value, and the search for the best."""
