"""The table of loss terms: how each is computed for a step. A new term is a function and one line of the table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from compactbio.modeling.packing import Encoded
from compactbio.objectives import attention
from compactbio.objectives.losses import cosine, logits_kl, mlm, soft_targets, squared_error
from compactbio.recipes import LossTerm, Recipe


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


@dataclass(frozen=True)
class Term:
    """A line of the table: the unweighted value on a step, and what has to be computed for it."""

    value: Callable[[Step], Tensor]
    logits: bool = False
    teacher_logits: bool = False
    last_state: bool = False
    states: bool = False
    embeddings: bool = False
    attentions: bool = False
    relations: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether the term reads the teacher."""
        return self.teacher_logits or self.needs_match or self.last_state or self.relations

    @property
    def needs_match(self) -> bool:
        """Whether the term compares layer by layer."""
        return self.states or self.embeddings or self.attentions


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
    total = [cosine(step.student.hidden[s], step.teacher.hidden[t]) for s, t in step.match.states]
    return sum(total[1:], total[0]) / step.counts.tokens


def _hidden_mse(step: Step) -> Tensor:
    total = [
        squared_error(step.projection(step.student.hidden[s]), step.teacher.hidden[t])
        for s, t in ((0, 0), *step.match.states)
    ]
    return sum(total[1:], total[0]) / (step.counts.tokens * step.teacher.hidden[0].shape[-1])


def _attention_kl(step: Step) -> Tensor:
    total = [
        attention.kl(step.student.attention[s], step.teacher.attention[t], step.borders, step.attention_dropout)
        for s, t in step.match.layers
    ]
    rows = step.counts.tokens if step.recipe.attention_kl_mean == "rows" else step.counts.pairs
    return sum(total[1:], total[0]) / (rows * _heads(step))


def _attention_mse(step: Step) -> Tensor:
    of = step.recipe.attention_mse_of
    total = [
        attention.mse(step.student.attention[s], step.teacher.attention[t], step.borders, of, step.attention_dropout)
        for s, t in step.match.layers
    ]
    return sum(total[1:], total[0]) / (step.counts.pairs * _heads(step))


def _attention_relations(step: Step) -> Tensor:
    assert step.match.relation is not None  # the match has it where this term has a weight
    sides = zip((step.student, step.teacher), step.match.relation, strict=True)
    student, teacher = ((*side.attention[layer][:2], side.values[layer]) for side, layer in sides)
    heads = step.match.relation_heads
    return attention.relations(student, teacher, step.borders, heads) / (step.counts.tokens * heads)


def _heads(step: Step) -> int:
    query, _, _ = next(iter(step.student.attention.values()))
    return query.shape[0]


TERMS: dict[LossTerm, Term] = {
    LossTerm.MLM: Term(_mlm, logits=True),
    LossTerm.LOGITS_KL: Term(_logits_kl, logits=True, teacher_logits=True),
    LossTerm.SOFT_TARGETS: Term(_soft_targets, logits=True, teacher_logits=True),
    LossTerm.LAST_HIDDEN_COSINE: Term(_last_hidden_cosine, last_state=True),
    LossTerm.HIDDEN_COSINE: Term(_hidden_cosine, states=True),
    LossTerm.HIDDEN_MSE: Term(_hidden_mse, states=True, embeddings=True),
    LossTerm.ATTENTION_KL: Term(_attention_kl, attentions=True),
    LossTerm.ATTENTION_MSE: Term(_attention_mse, attentions=True),
    LossTerm.ATTENTION_RELATIONS: Term(_attention_relations, relations=True),
}
