"""Trials: short fine-tunings within a ranking, fold by fold, of the models that may still be first."""
