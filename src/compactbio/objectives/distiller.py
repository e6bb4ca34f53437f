"""The module that distillation trains: a student, where needed a projection, and the weighted loss terms.

It compares the layers of two models that `match` pairs, and refuses two that do not fit the terms.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.families import attention_dropout, captures_attention, depth, heads, mlm_logits
from compactbio.modeling.packing import NO_LABEL, Encoded, Packed, encode
from compactbio.modeling.sharing import building
from compactbio.modeling.students import picked_layers
from compactbio.objectives.terms import TERMS, Counts, Match, Step, reads
from compactbio.recipes import LossTerm, Recipe

PROJECTION = "projection.safetensors"
# The relation heads of the paper for teachers of 768 dimensions (Wang et al. 2021, arXiv 2012.15828, section 4).
RELATION_HEADS = 48


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes:
        loss: the sum of the terms, a 0-dim tensor.
        terms: the weighted terms by name, 0-dim tensors in float32.
    """

    loss: Tensor
    terms: dict[str, Tensor]


def labelled(batch: Packed) -> Tensor:
    """The places of a batch's labels, (n,); to be taken on the host, which would wait for a device."""
    return (batch.labels != NO_LABEL).nonzero().squeeze(1)


def counts_of(batch: Packed) -> Counts:
    """The counts of a batch; to be taken on the host, as `labelled` is."""
    return Counts(len(labelled(batch)), batch.borders[-1], sum(length**2 for length in batch.lengths))


class Distiller(nn.Module):
    """The loss of a recipe, as a module that trains the student.

    Args:
        student: a masked-LM model.
        teacher: a masked-LM model, which is neither trained nor saved; None where no term reads it. Its dropout
            follows `recipe.teacher_dropout` and is off in eval mode.
        recipe: the terms and their weights.

    `projection` is an nn.Linear from the student's width to the teacher's where `hidden_mse` has a weight. Raises
    UserError where the two models do not fit the terms: other depths, heads, widths or vocabularies than these take.

    Example: `Distiller(student, teacher, recipe)(input_ids, attention_mask, labels).loss.backward()`
    """

    teacher: PreTrainedModel | None
    projection: nn.Module
    counts = staticmethod(counts_of)

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.student = student
        # Not a submodule: saving would meet shared tensors, and train() would switch its dropout on.
        self.__dict__["teacher"] = teacher if reads(recipe, "teacher") else None
        self._match = match(student, self.teacher, recipe)
        self.projection = nn.Identity()
        if LossTerm.HIDDEN_MSE in recipe.loss and self.teacher is not None:
            with building(recipe.seed):
                self.projection = nn.Linear(student.config.hidden_size, self.teacher.config.hidden_size)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Distiller":
        """Set train or eval mode; the teacher's dropout is on only in train mode and where the recipe says so."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.train(mode and self.recipe.teacher_dropout)
        return self

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        counts: Counts | None = None,
        batch: Packed | None = None,
        at: Tensor | None = None,
    ) -> Losses:
        """The losses of a padded batch, or of a packed row. Padding contributes nothing to any term.

        Args:
            input_ids: (batch, length), or (1, tokens) for a packed row.
            attention_mask: (batch, length), 1 at tokens; None where all are.
            labels: as `input_ids`, -100 where nothing is masked.
            position_ids: (1, tokens) of a packed row; by default they start at 0 in each citation.
            cu_seq_lens_q: the borders of a packed row, (citations + 1,).
            counts: the totals of the optimiser step to divide by; by default the batch's own.
            batch: a packed row in place of the tensors above, as the engine gives it.
            at: the places of its labels, as for `labelled`, so that nothing is read off the device.
        """
        if batch is None:
            assert input_ids is not None and labels is not None
            batch = (
                Packed.from_padded(input_ids, attention_mask, labels)
                if cu_seq_lens_q is None
                else Packed.from_row(input_ids, labels, cu_seq_lens_q, position_ids)
            )
        step = self._read(batch, labelled(batch) if at is None else at, counts or counts_of(batch).at_least_one())
        terms = {term.value: weight * TERMS[term][0](step) for term, weight in self.recipe.loss.items()}
        return Losses(torch.stack(list(terms.values())).sum(), terms)

    def save(self, folder: str | Path) -> None:
        """Write the student and the projection into a folder."""
        # By the names of its modules, which may not be those of the files that it was loaded from.
        self.student.save_pretrained(folder, save_original_format=False)
        save_model(self.projection, str(Path(folder) / PROJECTION))

    def load(self, folder: str | Path) -> None:
        """Read what `save` wrote. Raises RuntimeError where a name is missing or too many."""
        load_model(self.student, Path(folder) / "model.safetensors", strict=True)
        load_model(self.projection, Path(folder) / PROJECTION, strict=True)

    def _read(self, batch: Packed, at: Tensor, counts: Counts) -> Step:
        """Run both models on a batch, for all that the terms read."""
        student, student_logits = self._run(self.student, batch, at, 0)
        teacher, teacher_logits = student, student_logits
        if self.teacher is not None:
            with torch.no_grad():
                teacher, teacher_logits = self._run(self.teacher, batch, at, 1)
        dropout = (0.0, 0.0)
        if self.recipe.attention_after_dropout and self.training:
            dropout = (_attention_dropout(self.student), _attention_dropout(self.teacher))
        return Step(
            recipe=self.recipe,
            student=student,
            teacher=teacher,
            student_logits=student_logits,
            teacher_logits=teacher_logits,
            labels=batch.labels[at],
            borders=batch.borders,
            match=self._match,
            projection=self.projection,
            attention_dropout=dropout,
            counts=counts,
        )

    def _run(self, model: PreTrainedModel, batch: Packed, at: Tensor, side: int) -> tuple[Encoded, Tensor]:
        """Encode a batch with the student (side 0) or the teacher (1), and run its head where a term reads it."""
        recipe, last = self.recipe, depth(model)
        states = {pair[side] for pair in self._match.states if reads(recipe, "states")} | {last}
        states |= {0} if reads(recipe, "embeddings") else set()
        layers = {pair[side] for pair in self._match.layers if reads(recipe, "attentions")}
        related = {self._match.relation[side]} if self._match.relation else set()
        encoded = encode(model, batch, states, layers | related, related)
        headed = reads(recipe, "teacher_logits" if side else "logits")
        logits = mlm_logits(model, encoded.hidden[last][at]) if headed else encoded.hidden[last][:0]
        return encoded, logits


def _attention_dropout(model: PreTrainedModel | None) -> float:
    return attention_dropout(model.config) if model is not None and model.training else 0.0


# -- which layers are compared, and whether two models fit the terms


def match(student: PreTrainedModel, teacher: PreTrainedModel | None, recipe: Recipe) -> Match:
    """Match the layers of two models. Raises UserError where the models do not fit the recipe's terms."""
    if not reads(recipe, "teacher"):
        return Match()
    if teacher is None:
        raise UserError(f"Recipe {recipe.name} needs a teacher: name one.", setting="teacher")
    _check_shapes(student, teacher, recipe)
    layers: tuple[tuple[int, int], ...] = ()
    if reads(recipe, "states") or reads(recipe, "attentions"):
        layers = tuple(enumerate(picked_layers(depth(teacher), depth(student), recipe.layer_map, "last")))
    if not reads(recipe, "relations"):
        return Match(layers)
    last = depth(teacher) - 1
    layer = last if recipe.relation_layer is None else recipe.relation_layer
    if layer > last:
        raise UserError(f"relation_layer {layer} is too high for a teacher of {last + 1} layers; take 0 to {last}.")
    relation = (depth(student) - 1, layer)
    return Match(layers, relation, _relation_heads(attention_width(student), attention_width(teacher), recipe))


def _check_shapes(student: PreTrainedModel, teacher: PreTrainedModel, recipe: Recipe) -> None:
    small, large = student.config, teacher.config
    if reads(recipe, "teacher_logits") and small.vocab_size != large.vocab_size:
        raise UserError(
            f"The student's vocabulary of {small.vocab_size} pieces is not the teacher's of {large.vocab_size}; "
            "both must use one tokenizer."
        )
    for term in (LossTerm.LAST_HIDDEN_COSINE, LossTerm.HIDDEN_COSINE):
        if term in recipe.loss and small.hidden_size != large.hidden_size:
            raise UserError(
                f"{term.value} compares states of one width, not {small.hidden_size} and {large.hidden_size}; "
                "take hidden_mse instead, which projects them."
            )
    for term in recipe.loss:
        _, parts = TERMS[term]
        if "attentions" in parts or "relations" in parts:
            _check_attention(student, term)
            _check_attention(teacher, term)
        if "attentions" in parts and heads(student) != heads(teacher):
            raise UserError(
                f"{term.value} compares head by head: give the student {heads(teacher)} heads, not {heads(student)}, "
                "or take attention_relations instead, which compares models of any number of heads."
            )


def _check_attention(model: PreTrainedModel, term: LossTerm) -> None:
    kind = model.config.model_type
    if not captures_attention(model):
        raise UserError(
            f"{term.value} reads queries and keys, which a {kind} does not give, as terms of distance are part of its "
            "attention: leave the term out, or take a recipe without it, such as distil-biobert."
        )
    if "attentions" in TERMS[term][1] and "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise UserError(
            f"{term.value} compares attention to all tokens, and some layers of a {kind} attend to near ones alone: "
            "take attention_relations instead."
        )


def _relation_heads(student: int, teacher: int, recipe: Recipe) -> int:
    """The recipe's number of relation heads; by default the largest up to 48 that divides both widths."""
    common = math.gcd(student, teacher)
    best = max(n for n in range(1, RELATION_HEADS + 1) if common % n == 0)
    wanted = recipe.relation_heads or best
    if common % wanted:
        raise UserError(
            f"relation_heads {wanted} does not divide the widths of {student} and {teacher}; take {best} or another "
            "number that divides both."
        )
    return wanted


def attention_width(model: PreTrainedModel) -> int:
    """The width of queries, keys and values; MobileBERT's is smaller than that of its hidden states."""
    return int(getattr(model.config, "true_hidden_size", model.config.hidden_size))
