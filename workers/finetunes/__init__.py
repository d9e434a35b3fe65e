"""Full fine-tunings: learning rates are tried, then every model is trained with the best and tested, seed by seed."""
