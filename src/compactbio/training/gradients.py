"""Which gradients are taken, and where they are added up."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel


@contextmanager
def frozen_key_biases(student: PreTrainedModel) -> Iterator[None]:
    """Within it the biases of the keys stay as they are; not for a loss that matches raw attention scores.

    A bias of the keys adds one number to a whole row of scores, which softmax cancels: its true gradient is 0. Adam
    would blow the rounding error of that 0 up to steps of full size, other ones for each number of processes.
    """
    biases = [p for name, p in student.named_parameters() if name.endswith((".key.bias", ".k_lin.bias"))]
    try:
        for bias in biases:
            bias.requires_grad_(False)
        yield
    finally:
        for bias in biases:
            bias.requires_grad_(True)


@contextmanager
def embedding_gradient_in_place(student: PreTrainedModel) -> Iterator[None]:
    """Within it the word embeddings' gradient is added up in one kept matrix, at the rows of the tokens that came up.

    Otherwise each micro-batch makes a matrix of vocabulary x width anew, of which a few rows are not 0. For one process
    on a CPU: DistributedDataParallel takes other ways with sparse gradients.
    """
    embeddings = student.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    kept = torch.empty_like(embeddings.weight, requires_grad=False)

    def begin(*_: object) -> None:
        if torch.is_grad_enabled() and embeddings.weight.grad is None:
            embeddings.weight.grad = kept.zero_()

    hook = embeddings.register_forward_pre_hook(begin)
    embeddings.sparse = True
    try:
        yield
    finally:
        embeddings.sparse = False
        hook.remove()
