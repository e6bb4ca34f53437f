"""What makes a training step cheaper: quick dropout masks, and no gradients that nothing uses."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compactbio.modeling.families import is_known, layer_list

LEVELS = 2**16


class QuickDropout(nn.Dropout):
    """Inverted dropout at a rate rounded to 1/65,536: 16 random bits per element, scaled by the rate as rounded.

    The bits come from NumPy's SFC64, seeded at each call by torch's generator, so torch's state alone decides which
    masks follow. CPU only.
    """

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of any shape with a share of its elements set to 0 and the rest scaled up to the old mean."""
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


@contextmanager
def frozen_key_biases(student: PreTrainedModel, but: Collection[int] = ()) -> Iterator[None]:
    """Within it the biases of the keys stay as they are, except in the 0-based layers `but`, whose keys the loss reads.

    A bias of the keys adds one number to a whole row of scores, which softmax cancels: its true gradient is 0. Adam
    would scale the rounding error of that 0 up to steps of full size, different for each number of processes.

    In a type that is not among FAMILIES they are trained: its attention may turn keys by their positions (RoFormer).
    """
    if not is_known(student.config):
        yield
        return
    read = {id(p) for layer in but for p in layer_list(student)[layer].parameters()}
    named = student.named_parameters()
    biases = [p for name, p in named if name.endswith((".key.bias", ".k_lin.bias")) and id(p) not in read]
    try:
        for bias in biases:
            bias.requires_grad_(False)
        yield
    finally:
        for bias in biases:
            bias.requires_grad_(True)


@contextmanager
def embedding_gradient_in_place(student: PreTrainedModel) -> Iterator[None]:
    """Within it the gradient of the word embeddings is summed in one matrix, at the rows of the tokens that occur.

    Otherwise each micro-batch makes a new matrix of vocabulary x width, of which few rows are not 0. For one process on
    a CPU: DistributedDataParallel handles sparse gradients in another way.
    """
    embeddings = student.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):  # IBert's are quantised
        yield
        return
    kept = torch.empty_like(embeddings.weight, requires_grad=False)

    def begin(*_: object) -> None:
        if torch.is_grad_enabled() and embeddings.weight.requires_grad and embeddings.weight.grad is None:
            embeddings.weight.grad = kept.zero_()

    hook = embeddings.register_forward_pre_hook(begin)
    embeddings.sparse = True
    try:
        yield
    finally:
        embeddings.sparse = False
        hook.remove()
