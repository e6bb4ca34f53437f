"""Masked language modelling: masked positions by (seed, epoch, row); held-out loss and accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compactbio.modeling.families import depth, device_of, mlm_logits
from compactbio.modeling.packing import Packed, encode
from compactbio.modeling.sharing import evaluating
from compactbio.objectives import labelled
from compactbio.objectives.losses import mlm

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
