"""Packed rows: rows of tokens joined end to end, and what a model's encoder, or its head for a task, makes of them."""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Self

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from compactbio.errors import UserError
from compactbio.modeling import families, hardware
from compactbio.modeling.attention import Capture, packed_attention
from compactbio.modeling.sharing import evaluating

NO_LABEL = -100
# What the names of a task's architectures end in.
ARCHITECTURES = {"ner": "ForTokenClassification", "relation": "ForSequenceClassification", "qa": "ForQuestionAnswering"}
# The classes that load a task's models.
AUTO = {
    "ner": transformers.AutoModelForTokenClassification,
    "relation": transformers.AutoModelForSequenceClassification,
    "qa": transformers.AutoModelForQuestionAnswering,
}


@dataclass(frozen=True)
class SoftLabels:
    """A teacher's probabilities for the units of a row: words, the row itself, or the words of a passage."""

    pieces: NDArray[np.int64]  # the places in the row of the tokens that belong to a unit, (pieces,)
    units: NDArray[np.int64]  # the unit of each of them, (pieces,)
    targets: NDArray[np.float32]  # (units, columns)


@dataclass(frozen=True)
class Row:
    """One input of a model, special tokens included."""

    input_ids: NDArray[np.int64]  # (length,)
    labels: NDArray[np.int64]  # (length,), -100 where there is nothing to predict
    segments: NDArray[np.int64] | None = None  # the token types (length,), None where all are 0
    soft: SoftLabels | None = None  # where the row is to be learnt from a teacher

    def __len__(self) -> int:
        return len(self.input_ids)


class _Tensors:
    """A dataclass with tensors among its fields."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        moved: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
            elif isinstance(value, _Tensors):
                moved[name] = value.to(device)
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class PackedSoftLabels(_Tensors):
    """The soft labels of the rows of a packed row."""

    pieces: Tensor  # the places in the packed row of the tokens that belong to a unit, (pieces,)
    units: Tensor  # the unit of each of them, (pieces,)
    targets: Tensor  # the teacher's probabilities, (units, columns)
    counts: tuple[int, ...]  # the units of each row


@dataclass(frozen=True)
class Packed(_Tensors):
    """Rows joined end to end."""

    input_ids: Tensor  # (tokens,)
    position_ids: Tensor  # (tokens,), from 0 in each row
    labels: Tensor  # (tokens,), -100 where there is nothing to predict
    borders: tuple[int, ...]  # where the rows begin, and the end: rows + 1 numbers from 0 to tokens
    segments: Tensor | None = None  # the token types (tokens,), None where all are 0
    soft: PackedSoftLabels | None = None  # where the rows are to be learnt from a teacher

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
        cls, input_ids: Tensor, labels: Tensor, cu_seq_lens: Tensor, position_ids: Tensor | None = None
    ) -> "Packed":
        """Read a packed row (1, tokens) with its borders (rows + 1,); by default positions start at 0 in each row."""
        if position_ids is None:
            lengths = cu_seq_lens.diff().tolist()
            position_ids = torch.cat([torch.arange(n, device=input_ids.device) for n in lengths])[None]
        return cls(input_ids[0], position_ids[0], labels[0], tuple(cu_seq_lens.tolist()))

    @property
    def lengths(self) -> list[int]:
        """The tokens of each row."""
        return [b - a for a, b in pairwise(self.borders)]


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of a packed row; only what was asked for."""

    hidden: dict[int, Tensor]  # by i, the state after i layers (0: the embedding output), (tokens, width)
    attention: dict[int, tuple[Tensor, Tensor, float]]  # by layer, query and key (heads, tokens, head size), scaling
    values: dict[int, Tensor]  # by layer, those of attention, (heads, tokens, head size)


def encode(
    model: PreTrainedModel, batch: Packed, states: set[int], attentions: set[int], values: Set[int] = frozenset()
) -> Encoded:
    """Run a model's encoder, without a head, on a packed row.

    Returns the hidden states `states`, counted from the embedding output, and the queries and keys, or the values, of
    0-based layers. A family that cannot be packed runs as a padded batch inside; what is returned is packed all the
    same.
    """
    capture = Capture(attentions, values)
    wanted = sorted(states)
    with packed_attention(model):
        inputs, at = inputs_of(model, batch)
        if families.captures_attention(model):
            inputs["capture"] = capture
        hidden = model.base_model(**inputs, output_hidden_states=wanted).hidden_states

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


def inputs_of(model: PreTrainedModel, batch: Packed) -> tuple[dict[str, Any], Tensor | None]:
    """What a model, called within `packed_attention`, takes of a packed row, and None; or what `padded_inputs` gives,
    for a family that cannot be packed."""
    if not families.packs(model.config):
        return padded_inputs(model, batch)
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids[None],
        "position_ids": _positions(model.config, batch)[None],
        "cu_seq_lens_q": torch.tensor(batch.borders, dtype=torch.int32, device=batch.input_ids.device),
        "borders": batch.borders,
    }
    if batch.segments is not None and families.has_segments(model):
        inputs["token_type_ids"] = batch.segments[None]
    if kinds := set(getattr(model.config, "layer_types", None) or ()):
        # Otherwise a model with local attention makes a mask of tokens x tokens, which `attend` does not read.
        inputs["attention_mask"] = dict.fromkeys(kinds)
    return inputs, None


def _positions(config: PretrainedConfig, batch: Packed) -> Tensor:
    """The position ids of a packed row, (tokens,), as the model's own code counts them."""
    first = families.first_position(config)
    if not first:
        return batch.position_ids
    # A text may hold the padding token itself, which has no position of its own.
    counted = (batch.input_ids != config.pad_token_id).long()
    totals = counted.cumsum(0)
    starts = torch.tensor(batch.borders[:-1], device=totals.device)
    lengths = torch.tensor(batch.lengths, device=totals.device)
    # With its size given, the device need not be waited for.
    before = (totals - counted)[starts].repeat_interleave(lengths, output_size=batch.borders[-1])
    positions: Tensor = (totals - before) * counted + first - 1
    return positions


def padded_inputs(model: PreTrainedModel, batch: Packed) -> tuple[dict[str, Any], Tensor]:
    """A packed row as a padded batch, and the places of its tokens in the batch laid flat, (tokens,)."""
    device = batch.input_ids.device
    # By the lengths, which the host knows, so that nothing is read off the device.
    mask = np.arange(max(batch.lengths)) < np.array(batch.lengths)[:, None]  # (rows, longest)
    keep, at = torch.tensor(mask, device=device), torch.tensor(np.flatnonzero(mask), device=device)

    def padded(values: Tensor, fill: int) -> Tensor:
        whole = values.new_full((keep.numel(),), fill)
        whole[at] = values
        return whole.view(keep.shape)

    ids = padded(batch.input_ids, model.config.pad_token_id or 0)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": keep.long()}
    if getattr(model.config, "trigram_input", False):
        # An embedding that joins neighbours would see the embedding of [PAD]: padding is zeros.
        del inputs["input_ids"]
        inputs["inputs_embeds"] = model.get_input_embeddings()(ids) * keep[..., None]
    if batch.segments is not None and families.has_segments(model):
        inputs["token_type_ids"] = padded(batch.segments, 0)
    return inputs, at


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
    packed = Packed.from_rows(
        [torch.from_numpy(row.input_ids) for row in rows],
        [torch.from_numpy(row.labels) for row in rows],
        segments or None,
    )
    soft = [row.soft for row in rows if row.soft is not None]
    return replace(packed, soft=_join_soft(soft, packed.borders)) if soft else packed


def _join_soft(rows: list[SoftLabels], borders: tuple[int, ...]) -> PackedSoftLabels:
    counts = [len(row.targets) for row in rows]
    firsts = _borders(counts)
    return PackedSoftLabels(
        torch.cat([torch.from_numpy(row.pieces) + start for row, start in zip(rows, borders, strict=False)]),
        torch.cat([torch.from_numpy(row.units) + first for row, first in zip(rows, firsts, strict=False)]),
        torch.cat([torch.from_numpy(row.targets) for row in rows]),
        tuple(counts),
    )


def task_logits(model: PreTrainedModel, task: str, batch: Packed) -> Tensor:
    """The logits of a packed row: (tokens, labels) for NER, (rows, classes) for relations, (tokens, 2) for QA.

    They are what the model's own forward gives for each row, however its family runs.
    """
    if task == "relation":
        return _class_logits(model, batch)
    with packed_attention(model) if families.packs(model.config) else nullcontext():
        inputs, at = inputs_of(model, batch)
        flat = _logits(model(**inputs)).flatten(0, 1)
    return flat if at is None else flat[at]


def _class_logits(model: PreTrainedModel, batch: Packed) -> Tensor:
    family = families.FAMILIES.get(model.config.model_type)
    # ModernBERT may read the mean of all tokens in place of the first.
    if family and family.classify and getattr(model.config, "classifier_pooling", "cls") == "cls":
        last = families.depth(model)
        hidden = encode(model, batch, {last}, set()).hidden[last]
        return family.classify(model, hidden[torch.tensor(batch.borders[:-1], device=hidden.device)])
    inputs, _ = padded_inputs(model, batch)
    return model(**inputs).logits  # type: ignore[no-any-return]


def row_logits(model: PreTrainedModel, task: str, batch: Packed) -> list[NDArray[np.float32]]:
    """The logits of each row: (length, labels) for NER, (classes,) for relations, (length, 2) for QA.

    They are copied off the device together, once per batch.
    """
    found = task_logits(model, task, batch).float().cpu().numpy()
    check_finite(found, model.name_or_path or type(model).__name__)
    return list(found) if task == "relation" else np.split(found, batch.borders[1:-1])


def check_finite(logits: NDArray[np.float32], name: str) -> None:
    """Raise UserError where the logits that the model `name` computed hold NaN or infinity."""
    if not np.isfinite(logits).all():
        raise UserError(f"{name}: it computes NaN or infinite logits; compute it in fp32, or take another model.")


# What the largest logit may change by, as a share of it, when its row is padded.
_BY_PADDING = 1e-4


def check_runs(model: PreTrainedModel, name: str) -> None:
    """Refuse a model, with the head of a task, that cannot be run, or whose logits for a row change where it is padded.

    The latter is known of the FAMILIES.
    """
    kind = model.config.model_type
    # Ordinary pieces: special tokens stand first or last in a vocabulary.
    ids = model.config.vocab_size // 2 + torch.arange(12) % max(model.config.vocab_size // 2, 1)
    known = families.is_known(model.config)
    try:
        with evaluating(model), torch.no_grad():
            alone = _logits(model(ids[None, :5], attention_mask=torch.ones(1, 5).long()))
            if not known:
                inputs, _ = padded_inputs(model, Packed.from_rows([ids, ids[:5]], [ids, ids[:5]]))
                both = _logits(model(**inputs))
    except Exception as error:  # of many kinds, from code that is made for other inputs
        if known:
            raise UserError(
                f"{name}: the model that its config.json describes cannot be run ({type(error).__name__}: "
                f"{str(error)[:120]}); take another model."
            ) from None
        raise UserError(
            f"{name} is of type {kind!r}, which fails on rows of tokens alone ({type(error).__name__}: "
            f"{str(error)[:120]}): take another model."
        ) from None
    if known:
        return
    change = (both[1:, : alone.shape[1]] - alone).abs().max()
    if not change <= _BY_PADDING * max(float(alone.abs().max()), 1.0):
        raise UserError(
            f"{name} is of type {kind!r}, whose results change where rows are padded to one length, so it is not "
            "supported: take another model."
        )


def _logits(out: ModelOutput) -> Tensor:
    """The logits of a batch: (rows, length, labels), (rows, classes), or of QA (rows, length, 2)."""
    logits = out.logits if "logits" in out else torch.stack([out.start_logits, out.end_logits], dim=-1)
    assert isinstance(logits, Tensor)
    return logits.float()


def predict(
    model: PreTrainedModel, task: str, rows: Sequence[Row], *, tokens: int, bf16: bool
) -> list[NDArray[np.float32]]:
    """The logits of each row in the rows' order (shapes as for `row_logits`), in batches of `tokens`; with `bf16`
    under autocast. The model's mode is kept."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[NDArray[np.float32]] = []  # in that order
    device = families.device_of(model)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in pack([rows[i] for i in order], tokens):
            found += row_logits(model, task, batch.to(device))
    return [found[place] for place in np.argsort(order)]


# Gives the logits of rows in the rows' order (shapes as for `row_logits`).
Predictor = Callable[[Sequence[Row]], list[NDArray[np.float32]]]


def predictor_of(model: PreTrainedModel, task: str, tokens: int, precision: str) -> Predictor:
    """A function from rows to logits, for a loaded model; `precision` as for `hardware.precision`."""
    bf16 = hardware.precision(precision, model.config) == "bf16"
    return lambda rows: predict(model, task, rows, tokens=tokens, bf16=bf16)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """The softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]
