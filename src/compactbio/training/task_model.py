"""The module that fine-tuning trains: an encoder, a task's head, and the task's loss on packed rows."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from compactbio.modeling.heads import class_logits, last_states, span_logits, token_logits
from compactbio.modeling.packing import Packed
from compactbio.objectives import Counts, Losses, counts_of

# The labels of a question answering row: where the answer's first and last pieces stand.
START, END = 1, 2


class FineTuner(nn.Module):
    """Trains `student`, an encoder with the head of `task` ("ner", "relation" or "qa"), on packed rows."""

    def __init__(self, student: PreTrainedModel, task: str) -> None:
        super().__init__()
        self.student = student
        self._task = task

    def forward(self, batch: Packed, at: Tensor, counts: Counts) -> Losses:
        """The loss of a packed row whose labels stand `at` (n,) its places, divided by `counts.masked`."""
        loss = LOSSES[self._task](self.student, last_states(self.student, batch), batch, at) / counts.masked
        return Losses(loss, {self._task: loss})

    def counts(self, batch: Packed) -> Counts:
        """What the loss is a mean over: labelled words, sentences, or questions with their passages."""
        counts = counts_of(batch)
        return counts._replace(masked=len(batch.lengths)) if self._task == "qa" else counts

    def save(self, folder: Path) -> None:
        """Write the model into a folder."""
        self.student.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises RuntimeError where a name is missing or too many."""
        load_model(self.student, folder / "model.safetensors", strict=True)


def token_loss(model: PreTrainedModel, hidden: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum of the cross-entropies at labelled tokens; hidden is (tokens, width)."""
    return cross_entropy(token_logits(model, hidden[at]).float(), batch.labels[at], reduction="sum")


def class_loss(model: PreTrainedModel, hidden: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum of the cross-entropies of the rows' classes, whose labels stand at [CLS]; hidden is (tokens, width)."""
    return cross_entropy(class_logits(model, hidden[at]).float(), batch.labels[at], reduction="sum")


def span_loss(model: PreTrainedModel, hidden: Tensor, batch: Packed, at: Tensor) -> Tensor:
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


LOSSES: dict[str, Callable[[PreTrainedModel, Tensor, Packed, Tensor], Tensor]] = {
    "ner": token_loss,
    "relation": class_loss,
    "qa": span_loss,
}
