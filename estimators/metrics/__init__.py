"""One file a metric: its formula, and how it is computed."""
