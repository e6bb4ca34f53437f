"""Rows of tokens with labels: what a task makes of documents and a model is fed with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_LABEL = -100


@dataclass(frozen=True)
class Row:
    """One input of a model, special tokens included; all arrays are (length,).

    `labels` is -100 where there is nothing to predict. `segments` are the token types, None where all are 0.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    segments: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)
