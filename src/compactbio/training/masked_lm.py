"""Masked language modelling: masked positions by (seed, epoch, row); scores on held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compactbio.modeling.families import depth, device_of, mlm_logits
from compactbio.modeling.packing import Packed, encode
from compactbio.modeling.sharing import evaluating
from compactbio.modeling.templates import special_ids
from compactbio.objectives import labelled
from compactbio.objectives.terms import mlm

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
        return np.where(chosen, masked, ids), np.where(chosen, ids, -100)


class Heldout(NamedTuple):
    """`loss` in nats per masked token, `accuracy` in [0, 1], over `masked` tokens."""

    loss: float
    accuracy: float
    masked: int


def score_heldout(model: PreTrainedModel, batches: Sequence[Packed], *, bf16: bool) -> Heldout:
    """A model on held-out rows, over the batches of all processes; its mode is left as it was.

    Args:
        model: a masked-LM model.
        batches: this process's share of the masked rows.
        bf16: whether to compute under autocast, as training in that precision does.
    """
    device = device_of(model)
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, right, masked
    last = depth(model)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in batches:
            on_device, at = batch.to(device), labelled(batch).to(device)  # (masked,)
            labels = on_device.labels[at]
            logits = mlm_logits(model, encode(model, on_device, {last}, set()).hidden[last][at])  # (masked, vocabulary)
            right = (logits.argmax(-1) == labels).sum()
            sums += torch.stack([mlm(logits, labels).double(), right.double(), sums.new_tensor(len(at))])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    loss, right, masked = sums.tolist()
    return Heldout(loss / max(masked, 1.0), right / max(masked, 1.0), int(masked))
