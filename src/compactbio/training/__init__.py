"""One engine for all that is trained: `distil` knows no paths, `train` is the shell around it."""

from compactbio.training.run import Result, train

__all__ = ["Result", "train"]
