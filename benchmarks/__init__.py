"""Measurements of compactbio against plain ways of doing the same: `python -m benchmarks.training`."""
