"""Looking at a data set or a model once, when it is registered."""
