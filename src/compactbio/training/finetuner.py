"""The module that fine-tuning trains: an encoder, a task's head, and the task's loss on packed rows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from compactbio.modeling.families import depth
from compactbio.modeling.heads import class_logits, span_logits, token_logits
from compactbio.modeling.packing import Packed, encode
from compactbio.objectives import Counts, Losses

# The labels of a question answering row: where the answer's first and last pieces stand.
START, END = 1, 2


class FineTuner(nn.Module):
    """Trains `student`, an encoder with the head of `task` ("ner", "relation" or "qa"), on packed rows."""

    def __init__(self, student: PreTrainedModel, task: str) -> None:
        super().__init__()
        self.student = student
        self._task = task

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor,
        cu_seq_lens_q: Tensor,
        counts: Counts,
        token_type_ids: Tensor | None = None,
    ) -> Losses:
        """The loss of a packed row (1, tokens) with its borders (rows + 1,), divided by `counts.masked`."""
        batch = Packed.from_row(input_ids, labels, cu_seq_lens_q, position_ids, token_type_ids)
        loss = LOSSES[self._task](self.student, last_states(self.student, batch), batch) / counts.masked
        return Losses(loss, {self._task: loss})

    def counts(self, batch: Packed) -> Counts:
        """What the loss is a mean over: labelled words, sentences, or questions with their passages."""
        masked = len(batch.lengths) if self._task == "qa" else int((batch.labels != -100).sum())
        return Counts(masked, batch.borders[-1], sum(length**2 for length in batch.lengths))

    def save(self, folder: Path) -> None:
        """Write the model into a folder."""
        self.student.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises RuntimeError where a name is missing or too many."""
        load_model(self.student, folder / "model.safetensors", strict=True)


def last_states(model: PreTrainedModel, batch: Packed) -> Tensor:
    """The encoder's last hidden states of a packed row, (tokens, width)."""
    last = depth(model)
    return encode(model, batch, {last}, set()).hidden[last]


def token_loss(model: PreTrainedModel, hidden: Tensor, batch: Packed) -> Tensor:
    """The sum of the cross-entropies at labelled tokens; hidden is (tokens, width)."""
    at = (batch.labels != -100).nonzero().squeeze(1)  # (labelled,)
    return cross_entropy(token_logits(model, hidden[at]).float(), batch.labels[at], reduction="sum")


def class_loss(model: PreTrainedModel, hidden: Tensor, batch: Packed) -> Tensor:
    """The sum of the cross-entropies of the rows' classes, whose labels stand at [CLS]; hidden is (tokens, width)."""
    at = (batch.labels != -100).nonzero().squeeze(1)  # (labelled rows,)
    return cross_entropy(class_logits(model, hidden[at]).float(), batch.labels[at], reduction="sum")


def span_loss(model: PreTrainedModel, hidden: Tensor, batch: Packed) -> Tensor:
    """The sum over rows of the mean cross-entropy of the answer's start and end among the row's tokens.

    The bits START and END of a label mark where the answer begins and ends; hidden is (tokens, width).
    Source: Devlin et al. 2019, section 4.2.
    """
    lengths = batch.lengths
    logits = torch.split(span_logits(model, hidden).float(), lengths)
    padded = pad_sequence(list(logits), batch_first=True, padding_value=-torch.inf)  # (rows, longest, 2)
    labels = pad_sequence(list(torch.split(batch.labels.clamp(min=0), lengths)), batch_first=True)  # (rows, longest)
    begins, ends = ((labels & bit).argmax(1) for bit in (START, END))
    start, end = (cross_entropy(padded[..., i], at, reduction="sum") for i, at in ((0, begins), (1, ends)))
    return (start + end) / 2


def row_logits(model: PreTrainedModel, task: str, batch: Packed) -> Sequence[Tensor]:
    """The logits of each row: (length, labels) for NER, (classes,) for relations, (length, 2) for QA."""
    hidden = last_states(model, batch)
    if task == "relation":
        starts = torch.tensor(batch.borders[:-1], device=hidden.device)
        return list(class_logits(model, hidden[starts]))
    head = token_logits if task == "ner" else span_logits
    return torch.split(head(model, hidden), batch.lengths)


LOSSES: dict[str, Callable[[PreTrainedModel, Tensor, Packed], Tensor]] = {
    "ner": token_loss,
    "relation": class_loss,
    "qa": span_loss,
}
