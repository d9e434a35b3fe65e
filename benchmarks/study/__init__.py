"""The study behind ``docs/truth.md``: which advice would have chosen the model that is best when fine-tuned."""
