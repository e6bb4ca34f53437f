"""Rows of tokens joined to packed rows: the one shape in which batches go through a model."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from compactbio.modeling.attention import Capture, packed_attention
from compactbio.modeling.families import check_family

NO_LABEL = -100


@dataclass(frozen=True)
class Row:
    """One input of a model, special tokens included.

    Attributes:
        input_ids: (length,).
        labels: (length,), -100 where there is nothing to predict.
        segments: the token types (length,), None where all are 0.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    segments: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Packed:
    """Rows joined end to end.

    Attributes:
        input_ids: (tokens,).
        position_ids: (tokens,), from 0 in each row.
        labels: (tokens,), -100 where there is nothing to predict.
        borders: where the rows begin, and the end: rows + 1 numbers from 0 to tokens.
        segments: the token types (tokens,), None where all are 0.
    """

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor
    borders: tuple[int, ...]
    segments: Tensor | None = None

    @classmethod
    def from_padded(cls, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor) -> "Packed":
        """Drop the padding of a batch (batch, length); `attention_mask` is 1 at tokens, None where all are."""
        keep = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        lengths = keep.sum(1)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        return cls(input_ids[keep], positions[keep], labels[keep], _borders(lengths.tolist()))

    @classmethod
    def from_rows(
        cls, rows: Sequence[Tensor], labels: Sequence[Tensor], segments: Sequence[Tensor] | None = None
    ) -> "Packed":
        """Join rows of tokens, each (length,), their labels and their token types, where there are any."""
        return cls(
            torch.cat(list(rows)),
            torch.cat([torch.arange(len(row)) for row in rows]),
            torch.cat(list(labels)),
            _borders([len(row) for row in rows]),
            torch.cat(list(segments)) if segments is not None else None,
        )

    @classmethod
    def from_row(
        cls,
        input_ids: Tensor,
        labels: Tensor,
        cu_seq_lens: Tensor,
        position_ids: Tensor | None = None,
    ) -> "Packed":
        """Read a packed row (1, tokens) with its borders (rows + 1,); by default positions start at 0 in each row."""
        borders = tuple(cu_seq_lens.tolist())
        if position_ids is None:
            starts = torch.repeat_interleave(cu_seq_lens[:-1], cu_seq_lens.diff())
            position_ids = (torch.arange(borders[-1], device=input_ids.device) - starts.to(input_ids.device))[None]
        return cls(input_ids[0], position_ids[0], labels[0], borders)

    @property
    def lengths(self) -> list[int]:
        """The tokens of each row."""
        return [b - a for a, b in pairwise(self.borders)]

    def to(self, device: torch.device) -> "Packed":
        """The same on another device."""
        ids, positions, labels = (
            tensor.to(device, non_blocking=True) for tensor in (self.input_ids, self.position_ids, self.labels)
        )
        segments = None if self.segments is None else self.segments.to(device, non_blocking=True)
        return Packed(ids, positions, labels, self.borders, segments)


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of a packed row; only what was asked for.

    Attributes:
        hidden: by i, the state after i layers (0: the embedding output), (tokens, width).
        attention: by layer, (query, key, scaling), the first two (heads, tokens, head size).
        values: by layer, those of attention, (heads, tokens, head size).
    """

    hidden: dict[int, Tensor]
    attention: dict[int, tuple[Tensor, Tensor, float]]
    values: dict[int, Tensor]


def encode(
    model: PreTrainedModel, batch: Packed, states: set[int], attentions: set[int], values: Set[int] = frozenset()
) -> Encoded:
    """Run a model's encoder, without a head, on a packed row.

    Args:
        states: the hidden states to return, counted from the embedding output.
        attentions: the 0-based layers whose queries and keys to return.
        values: the 0-based layers whose values to return.

    A family that cannot be packed runs as a padded batch inside; what is returned is packed all the same.
    """
    capture = Capture(attentions, values)
    wanted = sorted(states)
    run = _run_packed if check_family(model.config).packs else _run_padded
    with packed_attention(model):
        hidden, at = run(model, batch, wanted, capture)

    def packed(rows: Tensor) -> Tensor:
        flat = rows.flatten(0, 1)
        return flat if at is None else flat[at]

    def by_head(heads: Tensor) -> Tensor:
        return packed(heads.transpose(1, 2)).transpose(0, 1)

    return Encoded(
        {i: packed(hidden[i]) for i in wanted},
        {i: (by_head(query), by_head(key), scaling) for i, (query, key, scaling) in capture.taken.items()},
        {i: by_head(value) for i, value in capture.values.items()},
    )


def _run_packed(
    model: PreTrainedModel, batch: Packed, states: list[int], capture: Capture
) -> tuple[Sequence[Tensor], Tensor | None]:
    out = model.base_model(
        input_ids=batch.input_ids[None],
        **({} if batch.segments is None else {"token_type_ids": batch.segments[None]}),
        position_ids=batch.position_ids[None],
        cu_seq_lens_q=torch.tensor(batch.borders, dtype=torch.int32, device=batch.input_ids.device),
        borders=batch.borders,
        capture=capture,
        output_hidden_states=states,
    )
    return out.hidden_states, None


def _run_padded(
    model: PreTrainedModel, batch: Packed, states: list[int], capture: Capture
) -> tuple[Sequence[Tensor], Tensor | None]:
    """The hidden states of a padded batch, and the places of its tokens in the batch laid flat, (tokens,)."""
    device = batch.input_ids.device
    # By the lengths, which the host knows, so that nothing is read off the device.
    mask = np.arange(max(batch.lengths)) < np.array(batch.lengths)[:, None]  # (rows, longest)
    keep, at = torch.tensor(mask, device=device), torch.tensor(np.flatnonzero(mask), device=device)

    def padded(values: Tensor, fill: int) -> Tensor:
        whole = values.new_full((keep.numel(),), fill)
        whole[at] = values
        return whole.view(keep.shape)

    types = {} if batch.segments is None else {"token_type_ids": padded(batch.segments, 0)}
    # Padding is zeros, not the embedding of [PAD]: embeddings that join neighbours would see that.
    words = model.get_input_embeddings()(padded(batch.input_ids, model.config.pad_token_id or 0)) * keep[..., None]
    out = model.base_model(
        inputs_embeds=words, attention_mask=keep.long(), capture=capture, output_hidden_states=states, **types
    )
    return out.hidden_states, at


def _borders(lengths: list[int]) -> tuple[int, ...]:
    return tuple(accumulate(lengths, initial=0))


def pack(rows: Sequence[Row], tokens: int) -> Iterator[Packed]:
    """Join rows, in their order, to packed micro-batches of at most `tokens` tokens and at least one row."""
    waiting: list[Row] = []
    size = 0
    for row in rows:
        if waiting and size + len(row) > tokens:
            yield _join(waiting)
            waiting, size = [], 0
        waiting.append(row)
        size += len(row)
    if waiting:
        yield _join(waiting)


def _join(rows: list[Row]) -> Packed:
    segments = [torch.from_numpy(row.segments) for row in rows if row.segments is not None]
    return Packed.from_rows(
        [torch.from_numpy(row.input_ids) for row in rows],
        [torch.from_numpy(row.labels) for row in rows],
        segments or None,
    )
