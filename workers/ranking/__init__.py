"""The workflow of a ranking, and its steps."""
