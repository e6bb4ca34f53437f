"""Task heads on hidden states: what a model's own forward computes after its encoder, for packed rows too."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel


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
