"""The embedded default: a synthetic corpus with gold annotations, and the whole way on it in minutes, offline."""
