"""Task heads on hidden states: what a model's forward computes after its encoder, for packed rows."""

from collections.abc import Callable

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

from compactbio.modeling.families import depth
from compactbio.modeling.packing import Packed, encode

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
