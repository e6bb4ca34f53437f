"""Texts as word pieces with their places, whatever truncation or padding a tokenizer was saved with."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast


class Pieces(NamedTuple):
    """The pieces of a text, no special tokens: `ids` (n,), `offsets` (n, 2) their characters, end exclusive."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]


def pieces(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> list[Pieces]:
    """All pieces of each text, however long it is."""
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        Pieces(np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2))
        for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]
