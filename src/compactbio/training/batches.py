"""Whole optimiser steps as packed micro-batches: which rows, with which labels (masked or a task's), cut where.

A step's rows are a pure function of (seed, step), so a run resumes at any step without reading the ones before, and
the number of processes decides only which of them computes what. Dropout is drawn from a process's own generator, per
micro-batch, so other cuts and other numbers of processes draw other dropout masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.errors import UserError
from compactbio.modeling.packing import NO_LABEL, Packed, Row, pack
from compactbio.modeling.tokenizers import special_ids

if TYPE_CHECKING:
    # Imported for its type alone: it takes a second, which annotating does not need.
    from datasets import Dataset


# The epoch that held-out rows are masked in; no training reaches it.
HELDOUT_EPOCH = 2**23 - 1


@dataclass(frozen=True)
class Masking:
    """How rows are masked: of the chosen pieces 80 % become [MASK], 10 % a random piece, 10 % stay (Devlin 2019).

    Attributes:
        probability: the share of pieces that are chosen, in (0, 1).
        mask_id: the id of [MASK].
        special: (vocabulary,), True where a piece is never chosen.
        seed: of the choice, with epoch and row.
    """

    probability: float
    mask_id: int
    special: NDArray[np.bool_]
    seed: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, probability: float, seed: int) -> "Masking":
        """The masking for a tokenizer, whose special tokens are never chosen."""
        # The ids of added tokens may leave gaps, so that the highest is beyond the number of pieces.
        special = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.bool_)
        special[special_ids(tokenizer)] = True
        return cls(probability, int(tokenizer.mask_token_id), special, seed)

    def apply(self, ids: NDArray[np.int64], epoch: int, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The input and labels of a row, both (length,) as `ids`; labels are -100 where nothing was chosen."""
        # uint64 stated: numpy makes floats of a small and a large number together, and rows would share a stream.
        key = np.array([self.seed, (epoch << 40) | row], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        chance, fate = generator.random((2, len(ids)))
        chosen = (chance < self.probability) & ~self.special[ids]
        random_ids = generator.integers(len(self.special), size=len(ids))
        masked = np.where(fate < 0.8, self.mask_id, np.where(fate < 0.9, random_ids, ids))
        return np.where(chosen, masked, ids), np.where(chosen, ids, NO_LABEL)


class Source(Protocol):
    """Rows to train on; `seed` draws their order."""

    @property
    def seed(self) -> int: ...

    def __len__(self) -> int: ...

    def take(self, places: Sequence[tuple[int, int]]) -> list[Row]:
        """The rows at (epoch, row), with their labels."""
        ...


@dataclass(frozen=True)
class Masked:
    """The rows of a corpus, with column `input_ids`, masked again in each epoch."""

    rows: "Dataset"
    masking: Masking

    @property
    def seed(self) -> int:
        return self.masking.seed

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Sequence[tuple[int, int]]) -> list[Row]:
        ids = read_rows(self.rows, [row for _, row in places])
        return [Row(*self.masking.apply(ids[i], *place)) for i, place in enumerate(places)]


class Rows(Protocol):
    """Rows by their place: a list, or what reads them as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Row: ...


@dataclass(frozen=True)
class Labelled:
    """Rows that carry the labels of a task."""

    rows: Rows
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Sequence[tuple[int, int]]) -> list[Row]:
        return [self.rows[row] for _, row in places]


@dataclass(frozen=True)
class Steps(torch.utils.data.Dataset[list[Packed]]):
    """The steps of a run: `steps[i]` are the micro-batches that process `rank` of `world` computes in step i.

    A step takes `batch_size` rows of a random order, drawn again for each epoch; it may reach into the next epoch. A
    micro-batch holds at most `tokens` tokens, but at least one row.
    """

    rows: Source
    batch_size: int
    tokens: int
    count: int
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> list[Packed]:
        return _shared_out(self.rows.take(self.places(step)), self.tokens, self.rank, self.world)

    def places(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, row) of each row of a step."""
        size, seed = len(self.rows), self.rows.seed
        numbered = (divmod(n, size) for n in range(step * self.batch_size, (step + 1) * self.batch_size))
        return [(epoch, _permutation(size, seed, epoch)[place]) for epoch, place in numbered]


@lru_cache(maxsize=2)
def _permutation(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))).permutation(rows)


def read_rows(rows: "Dataset", places: Sequence[int]) -> list[NDArray[np.int64]]:
    """The token ids of some rows, each (length,)."""
    column = rows.with_format("arrow")[[int(place) for place in places]]["input_ids"].combine_chunks()
    return [column[i].values.to_numpy().astype(np.int64) for i in range(len(column))]


def heldout_batches(rows: "Dataset", masking: Masking, tokens: int, rank: int = 0, world: int = 1) -> list[Packed]:
    """This process's share of held-out rows as packed batches of `tokens` tokens, always masked in the same way.

    The masks depend on the masking probability alone, not on the run's seed, so that runs can be compared. Raises
    UserError where not one piece of them is masked.
    """
    fixed = Masking(masking.probability, masking.mask_id, masking.special, seed=0)
    held = Masked(rows, fixed).take([(HELDOUT_EPOCH, i) for i in range(len(rows))])
    if not any((row.labels != NO_LABEL).any() for row in held):
        raise UserError(
            f"No piece of the {len(held)} held-out rows is masked (mlm_probability {masking.probability:g}), so they "
            "have no loss to choose a student by: build the corpus with more held-out rows, or with none.",
            setting="corpus",
        )
    return _shared_out(held, tokens, rank, world)


def _shared_out(rows: Sequence[Row], tokens: int, rank: int, world: int) -> list[Packed]:
    """The part of some rows that process `rank` of `world` computes, shortest first, packed."""
    by_length = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    return list(pack([rows[i] for i in by_length[rank::world]], tokens))
