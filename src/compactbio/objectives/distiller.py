"""The module that distillation trains: a student, where needed a projection, and the weighted loss terms."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from compactbio.modeling.families import attention_dropout, depth, mlm_logits
from compactbio.modeling.packing import Encoded, Packed, encode
from compactbio.modeling.sharing import building
from compactbio.objectives.matching import match, needs_teacher
from compactbio.objectives.terms import TERMS, Counts, Step
from compactbio.recipes import LossTerm, Recipe

PROJECTION = "projection.safetensors"


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes:
        loss: the sum of the terms, a 0-dim tensor.
        terms: the weighted terms by name, 0-dim tensors in float32.
    """

    loss: Tensor
    terms: dict[str, Tensor]


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

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.student = student
        # Not a submodule: saving would meet shared tensors, and train() would switch its dropout on.
        self.__dict__["teacher"] = teacher if needs_teacher(recipe) else None
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
            at: the places of its labels, as of `labelled`, so that nothing is read off the device.
        """
        if batch is None:
            assert input_ids is not None and labels is not None
            batch = (
                Packed.from_padded(input_ids, attention_mask, labels)
                if cu_seq_lens_q is None
                else Packed.from_row(input_ids, labels, cu_seq_lens_q, position_ids)
            )
        step = self._read(batch, labelled(batch) if at is None else at, counts or counts_of(batch).at_least_one())
        terms = {term.value: weight * TERMS[term].value(step) for term, weight in self.recipe.loss.items()}
        return Losses(torch.stack(list(terms.values())).sum(), terms)

    def counts(self, batch: Packed) -> Counts:
        """The counts of a batch."""
        return counts_of(batch)

    def save(self, folder: str | Path) -> None:
        """Write the student and the projection into a folder."""
        self.student.save_pretrained(folder)
        save_model(self.projection, str(Path(folder) / PROJECTION))

    def load(self, folder: str | Path) -> None:
        """Read what `save` wrote. Raises RuntimeError where a name is missing or too many."""
        load_model(self.student, Path(folder) / "model.safetensors", strict=True)
        load_model(self.projection, Path(folder) / PROJECTION, strict=True)

    def _read(self, batch: Packed, at: Tensor, counts: Counts) -> Step:
        student, student_logits = self._run(self.student, batch, at, 0)
        teacher, teacher_logits = student, student_logits
        if self.teacher is not None:
            with torch.no_grad():
                teacher, teacher_logits = self._run(self.teacher, batch, at, 1)
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
            attention_dropout=self._attention_dropout(),
            counts=counts,
        )

    def _run(self, model: PreTrainedModel, batch: Packed, at: Tensor, side: int) -> tuple[Encoded, Tensor]:
        """Encode a batch with the student (side 0) or the teacher (1), and run its head where a term reads it."""
        terms = [TERMS[term] for term in self.recipe.loss]
        states = {pair[side] for pair in self._match.states if any(term.states for term in terms)}
        states |= {0 for term in terms if term.embeddings}
        layers = {pair[side] for pair in self._match.layers if any(term.attentions for term in terms)}
        related = {self._match.relation[side]} if self._match.relation else set()
        last = depth(model)
        encoded = encode(model, batch, states | {last}, layers | related, related)
        read = any(term.logits if side == 0 else term.teacher_logits for term in terms)
        logits = mlm_logits(model, encoded.hidden[last][at]) if read else encoded.hidden[last][:0]
        return encoded, logits

    def _attention_dropout(self) -> tuple[float, float]:
        if not (self.recipe.attention_after_dropout and self.training):
            return (0.0, 0.0)
        rates = []
        for model in (self.student, self.teacher):
            on = model is not None and model.training
            rates.append(attention_dropout(model.config) if on and model else 0.0)
        return (rates[0], rates[1])


def labelled(batch: Packed) -> Tensor:
    """The places of a batch's labels, (n,); to be taken on the host, which would wait for a device."""
    return (batch.labels != -100).nonzero().squeeze(1)


def counts_of(batch: Packed) -> Counts:
    """The counts of a batch; to be taken on the host, as `labelled` is."""
    return Counts(len(labelled(batch)), batch.borders[-1], sum(length**2 for length in batch.lengths))
