"""Held-out loss and masked-token accuracy of a masked-LM model."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compactbio.modeling.families import depth, device_of, mlm_logits
from compactbio.modeling.packing import Packed, encode
from compactbio.modeling.sharing import evaluating
from compactbio.objectives import labelled
from compactbio.objectives.losses import mlm


class Heldout(NamedTuple):
    """`loss` in nats a masked token, `accuracy` in [0, 1], over `masked` tokens."""

    loss: float
    accuracy: float
    masked: int


def totals(model: PreTrainedModel, batches: Sequence[Packed], *, bf16: bool) -> Tensor:
    """The sums (loss, right, masked) over batches, (3,) in float64; the model's mode is left as it was.

    `bf16` computes under autocast, as training in that precision does.
    """
    device = device_of(model)
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in batches:
            on_device, at = batch.to(device), labelled(batch).to(device)  # (masked,)
            labels = on_device.labels[at]
            last = depth(model)
            logits = mlm_logits(model, encode(model, on_device, {last}, set()).hidden[last][at])  # (masked, vocabulary)
            right = (logits.argmax(-1) == labels).sum()
            sums += torch.stack([mlm(logits, labels).double(), right.double(), sums.new_tensor(len(at))])
    return sums.cpu()


def heldout(sums: Tensor) -> Heldout:
    """The means of sums as `totals` gives them, added up over processes."""
    loss, right, masked = sums.tolist()
    count = max(masked, 1.0)
    return Heldout(loss / count, right / count, int(masked))
