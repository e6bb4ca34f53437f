"""The loss terms that compare attention, computed from queries and keys without storing attention maps.

The gradient is computed in the forward pass, per citation, while its map is there, and kept as gradients of queries and
keys; the backward pass only scales it. Memory is linear in tokens, and no map is computed twice. A GPU computes
citations of about one length together, as a kernel for each map would leave it idle.
Shapes: h heads, t tokens, d head size, l tokens of a citation, b citations.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# The maps of so many heads of a citation stay in a CPU's cache: 144 relation heads take a third of the time that way.
_CACHED_HEADS = 12
# The elements of maps that a GPU computes together: 256 MB in float32, of which about six are held at once.
_GROUP_ELEMENTS = 2**26
# The score, of student and teacher alike, where a group has no token: equal, it adds nothing to a term.
_NO_SCORE = -1e9
# (query (h, t, d), key (h, t, d), scaling) of one layer.
Attention = tuple[Tensor, Tensor, float]
# The scores of student and teacher, each (h, l, l) or (h, b, l, l), to the sum of a term and its gradient by the
# student's scores.
_Formula = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def kl(
    student: Attention, teacher: Attention, borders: Sequence[int], dropout: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """Sum over heads and query rows of KL(teacher's row || student's row), within each citation.

    Count: heads * tokens (a mean over query rows), or heads * sum of squared lengths (the published mean over every
    element, CompactBioBERT-Distillation.py compute_attention_loss). `dropout` are the rates of (student, teacher) that
    the published scripts apply to the probabilities first; a dropped key then counts as 1e-12, as there.
    """
    if any(dropout):
        return _after_dropout(student, teacher, borders, dropout, _dropped_kl)
    return _sum(_kl, student, teacher, borders)


def mse(
    student: Attention,
    teacher: Attention,
    borders: Sequence[int],
    of: Literal["scores", "probabilities"],
    dropout: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Sum over heads and pairs of tokens of a citation of (student - teacher)^2. Count: heads * sum of squared lengths.

    `of` "scores": the scaled products before softmax (Jiao et al. 2020, eq. 7). `of` "probabilities": after it
    (TinyBioBERT-Distillation.py att_loss), with the published dropout as in `kl`.
    """
    if of == "scores":
        return _sum(_score_error, student, teacher, borders)
    if any(dropout):
        return _after_dropout(student, teacher, borders, dropout, partial(F.mse_loss, reduction="sum"))
    return _sum(_probability_error, student, teacher, borders)


def relations(student: Sequence[Tensor], teacher: Sequence[Tensor], borders: Sequence[int], heads: int) -> Tensor:
    """Sum over Q-Q, K-K and V-V, relation heads and rows of KL(teacher's row || student's row), within each citation.

    A row of a relation is softmax(x X^T / sqrt(d)) of a token's queries, keys or values X, whose heads are joined and
    split again into `heads` of size d. Count: heads * tokens, for a sum of three means over relation heads and rows.
    Source: Wang et al. 2021 (MiniLMv2, arXiv 2012.15828), section 3.

    Args:
        student, teacher: queries, keys and values, each (h, t, d) with the h and d of its own model.
        heads: the number of relation heads; it divides both widths h * d.
    """
    pairs = zip(_split_anew(student, heads), _split_anew(teacher, heads), strict=True)
    return torch.stack([_sum(_kl, _with_itself(own), _with_itself(wanted), borders) for own, wanted in pairs]).sum()


def _split_anew(parts: Sequence[Tensor], heads: int) -> Sequence[Tensor]:
    """Queries, keys and values (h, t, d) as relation heads of all three, (some of 3 * heads, t, size)."""
    tokens = parts[0].shape[1]
    split = torch.cat([part.transpose(0, 1).reshape(tokens, heads, -1).transpose(0, 1) for part in parts])
    return torch.split(split, len(split) if split.is_cuda else _CACHED_HEADS)


def _with_itself(heads: Tensor) -> Attention:
    return heads, heads, float(heads.shape[-1] ** -0.5)


def _kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    s, t = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    wanted = t.exp()
    value = torch.dot((t - s).flatten(), wanted.flatten())
    return value, s.exp_().sub_(wanted)  # the teacher's rows sum to 1


def _score_error(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    apart = student - teacher
    return apart.square().sum(), 2 * apart


def _probability_error(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    s = student.softmax(-1)
    apart = s - teacher.softmax(-1)
    by_probability = 2 * apart
    return apart.square().sum(), s * (by_probability - (by_probability * s).sum(-1, keepdim=True))


def _sum(formula: _Formula, student: Attention, teacher: Attention, borders: Sequence[int]) -> Tensor:
    return _Compared.apply(*student, teacher, borders, formula)  # type: ignore[no-any-return, no-untyped-call]


class _Compared(torch.autograd.Function):
    """The sum of a formula over citations, with its gradient by the student's queries and keys."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        scaling: float,
        teacher: Attention,
        borders: Sequence[int],
        formula: _Formula,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:2])
        gradients = [torch.empty_like(x) for x in (query, key)] if wanted else []
        summed = _sum_in_groups if query.is_cuda else _sum_one_by_one
        # Autocast would take the products back to bf16, whose rounding is as large as what is compared.
        with torch.autocast(query.device.type, enabled=False):
            total = summed(formula, (query, key, scaling), teacher, borders, gradients)
        if wanted:
            ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_query, by_key = ctx.saved_tensors
        return grads[0] * by_query, grads[0] * by_key, None, None, None, None


def _sum_one_by_one(
    formula: _Formula, student: Attention, teacher: Attention, borders: Sequence[int], gradients: Sequence[Tensor]
) -> Tensor:
    """The sum of a formula over citations; `gradients` by the student's query and key, if any, are filled."""
    total = wide(student[0].new_zeros(()))
    for a, b in pairwise(borders):
        citation = slice(a, b)
        value, *found = _compared(formula, _part(student, citation), _part(teacher, citation))
        total += value
        for gradient, part in zip(gradients, found, strict=False):
            gradient[:, citation] = part
    return total


def _sum_in_groups(
    formula: _Formula, student: Attention, teacher: Attention, borders: Sequence[int], gradients: Sequence[Tensor]
) -> Tensor:
    """As `_sum_one_by_one`, with few kernels: citations of about one length are padded to the longest of them."""
    total, device = wide(student[0].new_zeros(())), student[0].device
    for tokens, real in _groups(borders, heads=len(student[0])):
        # Found on the host, for which the device would have to wait otherwise.
        filled, places = tokens[real].to(device), real.flatten().nonzero().flatten().to(device)
        empty = ~(real[:, :, None] & real[:, None]).to(device)  # (b, l, l)
        at = tokens.to(device)
        value, *found = _compared(formula, _part(student, at), _part(teacher, at), empty)
        total += value
        for gradient, part in zip(gradients, found, strict=False):
            gradient[:, filled] = part.flatten(1, 2)[:, places].to(gradient.dtype)
    return total


def _groups(borders: Sequence[int], heads: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Citations in groups, the shortest first: the tokens of a group, and where they are not padding, each (b, l)."""
    group: list[tuple[int, int]] = []
    for length, start in sorted((b - a, a) for a, b in pairwise(borders)):
        full = heads * (len(group) + 1) * length**2 > _GROUP_ELEMENTS
        if group and (full or length > 1.25 * group[0][0] + 8):
            yield _padded(group)
            group = []
        group.append((length, start))
    yield _padded(group)


def _padded(group: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    lengths, starts = torch.tensor(group)[:, :, None].unbind(1)  # (b, 1) each
    offsets = torch.arange(int(lengths.max()))
    real = offsets < lengths
    return torch.where(real, starts + offsets, 0), real


def _part(attention: Attention, tokens: slice | Tensor) -> Attention:
    """The attention of some tokens: (h, l, d) of a slice, (h, b, l, d) of numbers (b, l)."""
    query, key, scaling = attention
    return query[:, tokens], key[:, tokens], scaling


def _compared(
    formula: _Formula, student: Attention, teacher: Attention, empty: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of a formula, and its gradients by the student's query and key; `empty` are pairs of no tokens."""
    query, key, scaling = student
    teachers_query, teachers_key, teachers_scaling = teacher
    q, k = wide(query) * scaling, wide(key)
    s = q @ k.transpose(-1, -2)
    t = (wide(teachers_query) * teachers_scaling) @ wide(teachers_key).transpose(-1, -2)
    if empty is not None:
        s, t = s.masked_fill_(empty, _NO_SCORE), t.masked_fill_(empty, _NO_SCORE)
    value, gradient = formula(s, t)
    return value, gradient @ k * scaling, gradient.transpose(-1, -2) @ q


def _after_dropout(
    student: Attention,
    teacher: Attention,
    borders: Sequence[int],
    dropout: tuple[float, float],
    error: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The sum of an error of probabilities after dropout, as in the published scripts."""
    total = wide(student[0].new_zeros(()))
    for a, b in pairwise(borders):
        dropped = []
        for (query, key, scaling), rate in zip((student, teacher), dropout, strict=True):
            with torch.autocast(query.device.type, enabled=False):
                scores = wide(query[:, a:b]) @ wide(key[:, a:b]).transpose(1, 2) * scaling  # (h, l, l)
            dropped.append(F.dropout(scores.softmax(-1), rate))
        total = total + error(*dropped)
    return total


def _dropped_kl(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div((student + 1e-12).log(), (teacher + 1e-12).log(), reduction="sum", log_target=True)


def wide(x: Tensor) -> Tensor:
    """The tensor in float32 where it is of a half precision, in which softmax and sums lose too much."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
