"""Finished models as they are used: their size, speed and memory."""
