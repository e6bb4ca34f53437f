"""The loss terms: their formulas, as pure functions of tensors, and the table of how each is computed for a step.

A new term is a function and one line of the table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from compactbio.modeling.packing import Encoded
from compactbio.objectives import attention
from compactbio.objectives.attention import wide
from compactbio.recipes import LossTerm, Recipe


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


def probabilities_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * sum over units of KL(teacher || softmax(student / T)), at least 0. Count: units.

    student: logits (n, c); teacher: probabilities (n, c), at temperature T already: of one teacher softmax(logits / T),
    of several the mean of theirs. Source: Hinton et al. 2015, 2 (the T^2); Jiao et al. 2020 and Mukherjee and Awadallah
    2020 (XtremeDistil) use it on a task's labelled and unlabelled sentences.
    """
    s = F.log_softmax(wide(student) / temperature, dim=-1)
    return F.kl_div(s, wide(teacher), reduction="sum") * temperature**2


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over tokens of 1 - cos(student state, teacher state), in [0, 2] per token. Count: tokens.

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


class Counts(NamedTuple):
    """What the terms of a step are divided by, summed over its micro-batches and processes; numbers or 0-dim tensors.

    Attributes:
        masked: masked positions.
        tokens: tokens.
        pairs: the sum of squared lengths.
    """

    masked: float | Tensor
    tokens: float | Tensor
    pairs: float | Tensor

    def at_least_one(self) -> "Counts":
        """The same with no count below 1, so that a step without any masked position has a loss of 0."""
        return Counts(*(max(count, 1) for count in self))


class Match(NamedTuple):
    """Which layers are compared: 0-based (student layer, teacher layer).

    Attributes:
        layers: those that the layer-by-layer terms compare.
        relation: the two whose relations are compared, None where no term does.
        relation_heads: the number of heads of the relations.
    """

    layers: tuple[tuple[int, int], ...] = ()
    relation: tuple[int, int] | None = None
    relation_heads: int = 1

    @property
    def states(self) -> tuple[tuple[int, int], ...]:
        """The states after the matched layers, counted from the embedding output."""
        return tuple((s + 1, t + 1) for s, t in self.layers)


@dataclass(frozen=True)
class Step:
    """What a term may read of one micro-batch; logits (n, v) and labels (n,) are at masked positions only."""

    recipe: Recipe
    student: Encoded
    teacher: Encoded
    student_logits: Tensor
    teacher_logits: Tensor
    labels: Tensor
    borders: tuple[int, ...]
    match: Match
    projection: nn.Module
    attention_dropout: tuple[float, float]
    counts: Counts


def _mlm(step: Step) -> Tensor:
    return mlm(step.student_logits, step.labels) / step.counts.masked


def _logits_kl(step: Step) -> Tensor:
    return logits_kl(step.student_logits, step.teacher_logits, step.recipe.temperature) / step.counts.masked


def _soft_targets(step: Step) -> Tensor:
    return soft_targets(step.student_logits, step.teacher_logits, step.recipe.temperature) / step.counts.masked


def _last_hidden_cosine(step: Step) -> Tensor:
    student, teacher = step.student.hidden, step.teacher.hidden
    return cosine(student[max(student)], teacher[max(teacher)]) / step.counts.tokens


def _hidden_cosine(step: Step) -> Tensor:
    student, teacher = step.student.hidden, step.teacher.hidden
    return _sum(cosine(student[s], teacher[t]) for s, t in step.match.states) / step.counts.tokens


def _hidden_mse(step: Step) -> Tensor:
    student, teacher = step.student.hidden, step.teacher.hidden
    pairs = ((0, 0), *step.match.states)
    total = _sum(squared_error(step.projection(student[s]), teacher[t]) for s, t in pairs)
    return total / (step.counts.tokens * teacher[0].shape[-1])


def _attention_kl(step: Step) -> Tensor:
    student, teacher = step.student.attention, step.teacher.attention
    dropout = step.attention_dropout
    total = _sum(attention.kl(student[s], teacher[t], step.borders, dropout) for s, t in step.match.layers)
    rows = step.counts.tokens if step.recipe.attention_kl_mean == "rows" else step.counts.pairs
    return total / (rows * _heads(step))


def _attention_mse(step: Step) -> Tensor:
    student, teacher = step.student.attention, step.teacher.attention
    of, dropout = step.recipe.attention_mse_of, step.attention_dropout
    total = _sum(attention.mse(student[s], teacher[t], step.borders, of, dropout) for s, t in step.match.layers)
    return total / (step.counts.pairs * _heads(step))


def _attention_relations(step: Step) -> Tensor:
    assert step.match.relation is not None  # the match has it where this term has a weight
    sides = zip((step.student, step.teacher), step.match.relation, strict=True)
    student, teacher = ((*side.attention[layer][:2], side.values[layer]) for side, layer in sides)
    heads = step.match.relation_heads
    return attention.relations(student, teacher, step.borders, heads) / (step.counts.tokens * heads)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    return reduce(add, parts)


def _heads(step: Step) -> int:
    query, _, _ = next(iter(step.student.attention.values()))
    return query.shape[0]


# What a term makes necessary: the student's logits, a teacher, its logits, states and attentions of the matched layers,
# the embedding outputs, the relations of one layer.
Part = Literal["logits", "teacher", "teacher_logits", "states", "attentions", "embeddings", "relations"]
# Of each term the unweighted value on a step, and what it reads.
TERMS: dict[LossTerm, tuple[Callable[[Step], Tensor], tuple[Part, ...]]] = {
    LossTerm.MLM: (_mlm, ("logits",)),
    LossTerm.LOGITS_KL: (_logits_kl, ("logits", "teacher", "teacher_logits")),
    LossTerm.SOFT_TARGETS: (_soft_targets, ("logits", "teacher", "teacher_logits")),
    LossTerm.LAST_HIDDEN_COSINE: (_last_hidden_cosine, ("teacher",)),
    LossTerm.HIDDEN_COSINE: (_hidden_cosine, ("teacher", "states")),
    LossTerm.HIDDEN_MSE: (_hidden_mse, ("teacher", "states", "embeddings")),
    LossTerm.ATTENTION_KL: (_attention_kl, ("teacher", "attentions")),
    LossTerm.ATTENTION_MSE: (_attention_mse, ("teacher", "attentions")),
    LossTerm.ATTENTION_RELATIONS: (_attention_relations, ("teacher", "relations")),
}


def reads(recipe: Recipe, part: Part) -> bool:
    """Whether a loss term of the recipe reads some part of the models."""
    return any(part in TERMS[term][1] for term in recipe.loss)
