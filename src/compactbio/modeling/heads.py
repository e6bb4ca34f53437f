"""Task heads on hidden states, and a PyTorch model's logits for rows, packed into batches without padding."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from compactbio.errors import UserError
from compactbio.modeling import hardware
from compactbio.modeling.attention import packed_attention
from compactbio.modeling.families import FAMILIES, depth, device_of, packs
from compactbio.modeling.packing import Packed, Row, encode, inputs_of, pack, padded_inputs
from compactbio.modeling.sharing import evaluating

# What the names of a task's architectures end in.
ARCHITECTURES = {"ner": "ForTokenClassification", "relation": "ForSequenceClassification", "qa": "ForQuestionAnswering"}
# The classes that load a task's models.
AUTO = {
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}


def task_logits(model: PreTrainedModel, task: str, batch: Packed) -> Tensor:
    """The logits of a packed row: (tokens, labels) for NER, (rows, classes) for relations, (tokens, 2) for QA.

    They are what the model's own forward gives for each row, however its family runs.
    """
    if task == "relation":
        return _class_logits(model, batch)
    with packed_attention(model) if packs(model.config) else nullcontext():
        inputs, at = inputs_of(model, batch)
        flat = _logits(model(**inputs)).flatten(0, 1)
    return flat if at is None else flat[at]


def _class_logits(model: PreTrainedModel, batch: Packed) -> Tensor:
    # ModernBERT may read the mean of all tokens in place of the first.
    if packs(model.config) and getattr(model.config, "classifier_pooling", "cls") == "cls":
        classify = FAMILIES[model.config.model_type].classify
        assert classify is not None  # as of every family that packs
        hidden = encode(model, batch, {depth(model)}, set()).hidden[depth(model)]
        return classify(model, hidden[torch.tensor(batch.borders[:-1], device=hidden.device)])
    inputs, _ = padded_inputs(model, batch)
    return model(**inputs).logits  # type: ignore[no-any-return]


def row_logits(model: PreTrainedModel, task: str, batch: Packed) -> list[NDArray[np.float32]]:
    """The logits of each row: (length, labels) for NER, (classes,) for relations, (length, 2) for QA.

    They are copied off the device together, once per batch.
    """
    found = task_logits(model, task, batch).float().cpu().numpy()
    return list(found) if task == "relation" else np.split(found, batch.borders[1:-1])


# What the largest logit may change by, as a share of it, when its row is padded.
_BY_PADDING = 1e-4


def check_padding(model: PreTrainedModel, name: str) -> None:
    """Refuse a model, with the head of a task, whose logits for a row change where the row is padded."""
    kind = model.config.model_type
    # Ordinary pieces: special tokens stand first or last in a vocabulary.
    ids = model.config.vocab_size // 2 + torch.arange(12) % max(model.config.vocab_size // 2, 1)
    inputs, _ = padded_inputs(model, Packed.from_rows([ids, ids[:5]], [ids, ids[:5]]))
    try:
        with evaluating(model), torch.no_grad():
            both = _logits(model(**inputs))
            alone = _logits(model(ids[None, :5], attention_mask=torch.ones(1, 5).long()))
    except Exception as error:  # of many kinds, from code that is made for other inputs
        raise UserError(
            f"{name} is of type {kind!r}, which fails on rows of tokens alone ({type(error).__name__}: "
            f"{str(error)[:120]}): take another model."
        ) from None
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
    """The logits of each row in the rows' order (shapes as of `heads.row_logits`), in batches of `tokens`; with `bf16`
    under autocast. The model's mode is kept."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[NDArray[np.float32]] = []  # in that order
    device = device_of(model)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in pack([rows[i] for i in order], tokens):
            found += row_logits(model, task, batch.to(device))
    return [found[place] for place in np.argsort(order)]


# Gives the logits of rows in the rows' order (shapes as of `heads.row_logits`).
Predictor = Callable[[Sequence[Row]], list[NDArray[np.float32]]]


def predictor_of(model: PreTrainedModel, task: str, tokens: int, precision: str) -> Predictor:
    """A function from rows to logits, for a loaded model; `precision` as of `hardware.precision`."""
    bf16 = hardware.precision(precision, model.config) == "bf16"
    return lambda rows: predict(model, task, rows, tokens=tokens, bf16=bf16)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """The softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]
