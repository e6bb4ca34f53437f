"""Masked positions as a pure function of (seed, epoch, row): the same on every process, worker and resumed run."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

# The epoch that held-out rows are masked in; no training run gets there.
HELDOUT_EPOCH = 2**23 - 1


@dataclass(frozen=True)
class Masking:
    """How rows are masked: of the chosen pieces 80 % become [MASK], 10 % a random piece, 10 % stay.

    `special` is (vocabulary,), True where a piece is never chosen. Source: Devlin et al. 2019.
    """

    probability: float
    mask_id: int
    special: NDArray[np.bool_]
    seed: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, probability: float, seed: int) -> "Masking":
        """The masking for a tokenizer's pieces; all its special tokens are spared."""
        special = np.zeros(len(tokenizer), dtype=np.bool_)
        special[tokenizer.all_special_ids] = True
        return cls(probability, int(tokenizer.mask_token_id), special, seed)

    def apply(self, ids: NDArray[np.int64], epoch: int, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The input and labels of a row, both (length,) as `ids`; labels are -100 where nothing was chosen."""
        # As uint64 outright: numpy makes a list of a small and a large number floats, and rows would share a stream.
        key = np.array([self.seed, (epoch << 40) | row], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        chance, fate = generator.random((2, len(ids)))
        chosen = (chance < self.probability) & ~self.special[ids]
        random_ids = generator.integers(len(self.special), size=len(ids))
        masked = np.where(fate < 0.8, self.mask_id, np.where(fate < 0.9, random_ids, ids))
        return np.where(chosen, masked, ids), np.where(chosen, ids, -100)
