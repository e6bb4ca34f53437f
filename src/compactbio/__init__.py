"""compactbio: make, measure and use compact biomedical transformers."""

from importlib.metadata import version

__version__ = version("compactbio")
