"""A PyTorch model's logits for rows, packed into batches by tokens and length, without padding."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from compactbio.modeling import hardware
from compactbio.modeling.families import device_of
from compactbio.modeling.heads import row_logits
from compactbio.modeling.packing import Row, pack
from compactbio.modeling.sharing import evaluating


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
