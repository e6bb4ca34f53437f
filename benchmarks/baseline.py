"""A recipe's loss the plain way: padded batches, float32, full logits, eager attention, all states and maps returned.

It is what the published scripts compute, written anew, with the corrected definitions that compactbio's recipes have by
default, so that the loss is the same: the teacher and attention without dropout, attention compared before it, raw
scores for tiny-biobert. Shapes: b batch, l length, h heads, v vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from compactbio.recipes import LossTerm, Recipe

SCORES = "benchmark-scores"


def _eager_with_scores(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention that returns the scaled products before softmax in place of the probabilities."""
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)  # (b, h, l, l)
    masked = scores if attention_mask is None else scores + attention_mask
    weights = F.dropout(masked.softmax(-1), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), scores


AttentionInterface.register(SCORES, _eager_with_scores)
AttentionMaskInterface.register(SCORES, eager_mask)


class Baseline(nn.Module):
    """Computes the loss of a recipe on padded batches; `teacher` is None where the recipe reads none."""

    def __init__(
        self, student: PreTrainedModel, teacher: PreTrainedModel | None, recipe: Recipe, projection: nn.Module
    ) -> None:
        super().__init__()
        self.student = student
        self.projection = projection
        self.recipe = recipe
        self.__dict__["teacher"] = teacher
        attention = SCORES if LossTerm.ATTENTION_MSE in recipe.loss else "eager"
        for model in filter(None, (student, teacher)):
            model.set_attn_implementation(attention)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, each argument (b, l)."""
        teacher = self.__dict__["teacher"]
        ask = {"output_hidden_states": teacher is not None, "output_attentions": teacher is not None}
        own = self.student(input_ids, attention_mask=attention_mask, **ask)
        other = own
        if teacher is not None:
            with torch.no_grad():
                other = teacher.eval()(input_ids, attention_mask=attention_mask, **ask)
        terms = _terms(self.recipe, own, other, self.projection, attention_mask.bool(), labels)
        return sum((weight * terms[term]() for term, weight in self.recipe.loss.items()), own.logits.new_zeros(()))


def _terms(recipe: Recipe, own: Any, other: Any, projection: nn.Module, keep: Tensor, labels: Tensor) -> dict[Any, Any]:
    """The recipe's terms by name, each a function without arguments."""
    at = labels != -100  # (b, l)
    temperature = recipe.temperature

    def matched(of: str, first: int) -> list[tuple[Tensor, Tensor]]:
        mine, theirs = getattr(own, of)[first:], getattr(other, of)[first:]
        step = len(theirs) // len(mine)
        return list(zip(mine, theirs[step - 1 :: step], strict=True))

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return ((1 - F.cosine_similarity(a, b, dim=-1)) * keep).sum() / keep.sum()

    def error(a: Tensor, b: Tensor) -> Tensor:
        return ((projection(a) - b).square() * keep[..., None]).sum() / (keep.sum() * b.shape[-1])

    def attention_kl(a: Tensor, b: Tensor) -> Tensor:
        rows = (b * ((b + 1e-12).log() - (a + 1e-12).log())).sum(-1)  # (b, h, l)
        return (rows * keep[:, None]).sum() / (keep.sum() * a.shape[1])

    def attention_error(a: Tensor, b: Tensor) -> Tensor:
        pairs = keep[:, None, :, None] & keep[:, None, None, :]
        return ((a - b).square() * pairs).sum() / (pairs.sum() * a.shape[1])

    return {
        LossTerm.MLM: lambda: F.cross_entropy(own.logits.flatten(0, 1), labels.flatten()),
        LossTerm.LOGITS_KL: lambda: (
            F.kl_div(
                F.log_softmax(own.logits[at] / temperature, -1),
                F.softmax(other.logits[at] / temperature, -1),
                reduction="batchmean",
            )
            * temperature**2
        ),
        LossTerm.SOFT_TARGETS: lambda: F.cross_entropy(
            own.logits[at] / temperature, F.softmax(other.logits[at] / temperature, -1)
        ),
        LossTerm.LAST_HIDDEN_COSINE: lambda: cosine(own.hidden_states[-1], other.hidden_states[-1]),
        LossTerm.HIDDEN_COSINE: lambda: sum(cosine(a, b) for a, b in matched("hidden_states", 1)),
        LossTerm.HIDDEN_MSE: lambda: (
            error(own.hidden_states[0], other.hidden_states[0])
            + sum(error(a, b) for a, b in matched("hidden_states", 1))
        ),
        LossTerm.ATTENTION_KL: lambda: sum(attention_kl(a, b) for a, b in matched("attentions", 0)),
        LossTerm.ATTENTION_MSE: lambda: sum(attention_error(a, b) for a, b in matched("attentions", 0)),
    }
