"""The loss terms as pure functions of tensors.

Each returns the *sum* of its term, in float32 or wider; `objectives.terms` divides it by the count that its docstring
names, taken over the whole optimiser step, so that a step's loss does not depend on how it was cut up. Student tensors
come first, the teacher's after them. Shapes: n masked positions, v vocabulary, t tokens, h heads, d head size.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# (query (h, t, d), key (h, t, d), scaling) of one layer.
Attention = tuple[Tensor, Tensor, float]


def wide(x: Tensor) -> Tensor:
    """The tensor in float32 where it is of a half precision; softmax and sums lose too much below."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def mlm(logits: Tensor, labels: Tensor) -> Tensor:
    """Masked language modelling: sum of -log p(label). Count: masked positions.

    logits (n, v), labels (n,). Source: Devlin et al. 2019.
    """
    return F.cross_entropy(wide(logits), labels, reduction="sum")


def logits_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * sum over positions of KL(softmax(teacher / T) || softmax(student / T)). Count: masked positions.

    student, teacher (n, v); `batchmean` of the published scripts once divided. Source: DistilBioBERT-Distillation.py,
    loss_ce (Hinton et al. 2015).
    """
    s = F.log_softmax(wide(student) / temperature, dim=-1)
    t = F.log_softmax(wide(teacher) / temperature, dim=-1)
    return F.kl_div(s, t, reduction="sum", log_target=True) * temperature**2


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over positions of -softmax(teacher / T) . log softmax(student / T). Count: masked positions.

    student, teacher (n, v). Source: TinyBioBERT-Distillation.py, output_loss (Jiao et al. 2020, eq. 10).
    """
    s = F.log_softmax(wide(student) / temperature, dim=-1)
    return -(F.softmax(wide(teacher) / temperature, dim=-1) * s).sum()


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over tokens of 1 - cos(student state, teacher state), in [0, 2] a token. Count: tokens.

    student, teacher (t, width). Source: DistilBioBERT-Distillation.py loss_cos, CompactBioBERT-Distillation.py
    compute_hidden_loss.
    """
    return (1 - F.cosine_similarity(wide(student), wide(teacher), dim=-1)).sum()


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over tokens and dimensions of (student - teacher)^2. Count: tokens * width.

    student, teacher (t, width), the student's projected where widths differ. Source: TinyBioBERT-Distillation.py,
    rep_loss (Jiao et al. 2020, eq. 8).
    """
    return F.mse_loss(wide(student), wide(teacher), reduction="sum")


def attention_kl(
    student: Attention, teacher: Attention, borders: Sequence[int], dropout: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """Sum over heads and query rows of KL(teacher's row || student's row), within each citation.

    Count: heads * tokens (a mean over query rows), or heads * sum of squared lengths (the published mean over every
    element, CompactBioBERT-Distillation.py compute_attention_loss). `dropout` are the rates of (student, teacher) that
    the published scripts let fall on the probabilities first; a dropped key then counts as 1e-12, as there.
    """
    total = wide(student[0].new_zeros(()))
    for a, b in pairwise(borders):
        s = F.log_softmax(_scores(student, a, b), dim=-1)  # (h, length, length)
        t = F.log_softmax(_scores(teacher, a, b), dim=-1)
        if any(dropout):
            s = (F.dropout(s.exp(), dropout[0]) + 1e-12).log()
            t = (F.dropout(t.exp(), dropout[1]) + 1e-12).log()
        total = total + F.kl_div(s, t, reduction="sum", log_target=True)
    return total


def attention_mse(
    student: Attention,
    teacher: Attention,
    borders: Sequence[int],
    of: Literal["scores", "probabilities"],
    dropout: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Sum over heads and pairs of tokens of a citation of (student - teacher)^2. Count: heads * sum of squared lengths.

    `of` "scores": the scaled products before softmax (Jiao et al. 2020, eq. 7). `of` "probabilities": after it
    (TinyBioBERT-Distillation.py att_loss), with the published dropout as in `attention_kl`.
    """
    total = wide(student[0].new_zeros(()))
    for a, b in pairwise(borders):
        s, t = _scores(student, a, b), _scores(teacher, a, b)  # (h, length, length)
        if of == "probabilities":
            s, t = (F.dropout(x.softmax(-1), rate) for x, rate in zip((s, t), dropout, strict=True))
        total = total + F.mse_loss(s, t, reduction="sum")
    return total


def _scores(attention: Attention, start: int, end: int) -> Tensor:
    query, key, scaling = attention
    q, k = wide(query[:, start:end]), wide(key[:, start:end])  # (h, length, d)
    # Autocast would take the product back to bf16, whose rounding is as large as what is compared.
    with torch.autocast(query.device.type, enabled=False):
        return q @ k.transpose(1, 2) * scaling
