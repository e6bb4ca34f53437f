"""Arithmetic that a model's matrix products take, counted from its shape."""

from torch import nn
from transformers import PreTrainedModel


def flops_per_token(model: PreTrainedModel, length: float) -> float:
    """Floating-point operations of an encoder's forward pass a token, in sentences of `length` tokens.

    Two for every weight of a linear module, and in every layer 4 * `length` * width for the scores of attention and
    the sum over values, the width being that of the queries. Norms, activations, softmax and biases are left out.
    """
    queries = (
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith((".query", ".q_lin"))
    )
    return 2 * _linear_weights(model) + 4 * length * sum(module.out_features for module in queries)


def head_flops(model: PreTrainedModel) -> int:
    """Floating-point operations of a model's head at one position: two for every weight of its linear modules."""
    return 2 * (_linear_weights(model) - _linear_weights(model.base_model))


def _linear_weights(model: nn.Module) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
