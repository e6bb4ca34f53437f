"""A model, or another system's file, on a data set: predictions, scores and intervals."""
