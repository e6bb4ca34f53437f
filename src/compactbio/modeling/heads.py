"""Task heads on hidden states, and a PyTorch model's logits for rows, packed into batches without padding."""

from collections.abc import Callable, Sequence
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

from compactbio.modeling import hardware
from compactbio.modeling.families import depth, device_of
from compactbio.modeling.packing import Packed, Row, encode, pack
from compactbio.modeling.sharing import evaluating

# What the names of a task's architectures end in.
ARCHITECTURES = {
    "ner": "ForTokenClassification",
    "relation": "ForSequenceClassification",
    "qa": "ForQuestionAnswering",
}
# The classes that load a task's models.
AUTO = {
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}


def token_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The head of a token classification model: last hidden states (n, width) to logits (n, labels)."""
    return model.classifier(model.dropout(hidden))  # type: ignore[no-any-return]


def class_logits(model: PreTrainedModel, first: Tensor) -> Tensor:
    """The head of a sequence classification model: last hidden states at [CLS] (rows, width) to (rows, classes)."""
    return model.classifier(model.dropout(_POOLED[model.config.model_type](model, first)))  # type: ignore[no-any-return]


def span_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The head of a question answering model: last hidden states (n, width) to start and end logits (n, 2)."""
    if model.config.model_type == "distilbert":
        hidden = model.dropout(hidden)
    return model.qa_outputs(hidden)  # type: ignore[no-any-return]


def _by_pooler(model: PreTrainedModel, first: Tensor) -> Tensor:
    return model.base_model.pooler(first[:, None])  # type: ignore[no-any-return]


def _by_classifier(model: PreTrainedModel, first: Tensor) -> Tensor:
    return torch.relu(model.pre_classifier(first))


_POOLED: dict[str, Callable[[PreTrainedModel, Tensor], Tensor]] = {
    "bert": _by_pooler,
    "mobilebert": _by_pooler,
    "distilbert": _by_classifier,
}


def last_states(model: PreTrainedModel, batch: Packed) -> Tensor:
    """The encoder's last hidden states of a packed row, (tokens, width)."""
    last = depth(model)
    return encode(model, batch, {last}, set()).hidden[last]


def row_logits(model: PreTrainedModel, task: str, batch: Packed) -> list[NDArray[np.float32]]:
    """The logits of each row: (length, labels) for NER, (classes,) for relations, (length, 2) for QA.

    They are copied off the device together, once per batch.
    """
    hidden = last_states(model, batch)
    if task == "relation":
        starts = torch.tensor(batch.borders[:-1], device=hidden.device)
        return list(class_logits(model, hidden[starts]).float().cpu().numpy())
    head = token_logits if task == "ner" else span_logits
    return np.split(head(model, hidden).float().cpu().numpy(), batch.borders[1:-1])


def predict(
    model: PreTrainedModel, task: str, rows: Sequence[Row], *, tokens: int, bf16: bool
) -> list[NDArray[np.float32]]:
    """The logits of each row in the rows' order (shapes as of `heads.row_logits`), in batches of `tokens`; with `bf16`
    under autocast. The model's mode is kept."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[NDArray[np.float32]] = []
    device = device_of(model)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in pack([rows[i] for i in order], tokens):
            found += row_logits(model, task, batch.to(device))
    places = {row: place for place, row in enumerate(order)}
    return [found[places[i]] for i in range(len(rows))]


# Gives the logits of rows in the rows' order (shapes as of `heads.row_logits`).
Predictor = Callable[[Sequence[Row]], list[NDArray[np.float32]]]


def predictor_of(model: PreTrainedModel, task: str, tokens: int, precision: str) -> Predictor:
    """A function from rows to logits, for a loaded model; `precision` as of `hardware.precision`."""
    bf16 = hardware.precision(precision) == "bf16"
    return lambda rows: predict(model, task, rows, tokens=tokens, bf16=bf16)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """The softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]
