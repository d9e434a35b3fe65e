"""One file per metric: its formula, and how it is computed."""
