"""Dropout whose masks cost little on a CPU, where drawing them is a tenth of a step."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 2**16


class QuickDropout(nn.Dropout):
    """Inverted dropout at a rate rounded to 1/65,536: 16 random bits an element, scaled by the rate as rounded.

    The bits come from NumPy's SFC64, seeded at each call by torch's own generator, so torch's state alone says which
    masks follow. CPU only.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Of a tensor of any shape, the same with a share of its elements 0 and the rest scaled up to the old mean."""
        dropped = round(self.p * LEVELS)
        if not self.training or dropped == 0:
            return input
        if dropped == LEVELS:
            return input * 0
        seed = int(torch.randint(2**62, ()))
        bits = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-input.numel() // 4)).view(np.int16))
        keep = (bits[: input.numel()] >= dropped - LEVELS // 2).view(input.shape)
        # Scaled by a Python number: in half precision a tensor of scales would be rounded itself.
        return input * (LEVELS / (LEVELS - dropped)) * keep.to(input.dtype)


@contextmanager
def quick_dropout(model: nn.Module) -> Iterator[None]:
    """Within it the `nn.Dropout` modules of a model on a CPU are `QuickDropout`s of the same rates."""
    found = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) is nn.Dropout
    ]
    try:
        for module, name, child in found:
            setattr(module, name, QuickDropout(child.p).train(child.training))
        yield
    finally:
        for module, name, child in found:
            setattr(module, name, child.train(getattr(module, name).training))
