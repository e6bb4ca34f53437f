"""The module that fine-tuning trains: which classifier it starts from, and the loss of a task on packed rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.heads import ARCHITECTURES, task_logits
from compactbio.modeling.loading import Source
from compactbio.modeling.packing import Packed
from compactbio.objectives import Counts, Losses, counts_of
from compactbio.tasks.registry import TASKS
from compactbio.tasks.settings import has_independent_outputs

# Bits of the labels of a question answering row: the answer's first and last piece.
START, END = 1, 2


class TaskModel(nn.Module):
    """Trains `student`, an encoder with the head of `task` ("ner", "relation" or "qa"), on packed rows."""

    def __init__(self, student: PreTrainedModel, task: str) -> None:
        super().__init__()
        self.student = student
        self._task = task

    def forward(self, batch: Packed, at: Tensor, counts: Counts) -> Losses:
        """The loss of a packed row whose labels are `at` (n,) its places, divided by `counts.masked`."""
        loss = LOSSES[self._task](task_logits(self.student, self._task, batch), batch, at) / counts.masked
        return Losses(loss, {self._task: loss})

    def counts(self, batch: Packed) -> Counts:
        """The counts of a batch, where `masked` is what the loss is a mean over: words, sentences, or questions."""
        counts = counts_of(batch)
        return counts._replace(masked=len(batch.lengths)) if self._task == "qa" else counts

    def save(self, folder: Path) -> None:
        """Write the model into a folder."""
        self.student.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises RuntimeError where a name is missing or too many."""
        load_model(self.student, folder / "model.safetensors", strict=True)


def token_loss(logits: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum of the cross-entropies at labelled tokens; logits are (tokens, labels)."""
    return cross_entropy(logits[at].float(), batch.labels[at], reduction="sum")


def class_loss(logits: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum of the cross-entropies of the rows' classes, with labels at their first tokens; logits are (rows,
    classes)."""
    return cross_entropy(logits.float(), batch.labels[at], reduction="sum")


def span_loss(logits: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum over rows of the mean cross-entropy of the answer's start and end among the row's tokens.

    The bits START and END of the labels mark the two; logits are (tokens, 2). Source: Devlin et al. 2019, 4.2.
    """
    lengths = batch.lengths
    split = torch.split(logits.float(), lengths)
    padded = pad_sequence(list(split), batch_first=True, padding_value=-torch.inf)  # (rows, longest, 2)
    labels = pad_sequence(list(torch.split(batch.labels.clamp(min=0), lengths)), batch_first=True)  # (rows, longest)
    begins, ends = ((labels & bit).argmax(1) for bit in (START, END))
    start, end = (cross_entropy(padded[..., i], at, reduction="sum") for i, at in ((0, begins), (1, ends)))
    return (start + end) / 2


LOSSES: dict[str, Callable[[Tensor, Packed, Tensor], Tensor]] = {
    "ner": token_loss,
    "relation": class_loss,
    "qa": span_loss,
}


# -- the classifier that fine-tuning starts from


class TaskHead(NamedTuple):
    """The labels in the order of their ids, whether the model's own classifier is drawn afresh, and sentences on it."""

    labels: tuple[str, ...]
    fresh: bool = False
    notes: tuple[str, ...] = ()


def choose_head(source: Source, task: str, labels: Sequence[str]) -> TaskHead:
    """Decide between the classifier that a model has and a fresh one.

    One of the same task and labels is trained further, in its own order of labels; letter case does not tell labels
    apart.

    Args:
        source: the model.
        task: "ner", "relation" or "qa".
        labels: those of the training data; none for QA.
    """
    name, config = source.public_name(), source.config
    architecture = (config.architectures or [""])[0]
    if not labels or (architecture and not architecture.endswith(tuple(ARCHITECTURES.values()))):
        return TaskHead(tuple(labels))
    fresh = f"A fresh head was drawn; that of {name} is not used, because"
    if architecture and not architecture.endswith(ARCHITECTURES[task]):
        return TaskHead(tuple(labels), True, (f"{fresh} it is a {architecture}.",))
    if task == "relation" and (config.num_labels == 1 or has_independent_outputs(config)):
        return TaskHead(tuple(labels), True, (f"{fresh} its outputs are not those of one choice among classes.",))
    named = _named_labels(config, name, task)
    if named is None:
        return TaskHead(tuple(labels), True, (f"{fresh} its labels have no names.",) if architecture else ())
    ordered = _in_order(named, labels)
    if ordered is None:
        listed = ", ".join(named[:12]) + (f" and {len(named) - 12} more" if len(named) > 12 else "")
        return TaskHead(tuple(labels), True, (f"{fresh} its labels are others ({listed}).",))
    if named == list(labels):
        return TaskHead(tuple(labels))
    note = f"The head of {name} is trained further with its own order of labels; the data have another order or case."
    return TaskHead(ordered, notes=(note,))


def draw_classifier(model: PreTrainedModel, seed: int) -> None:
    """Draw the last layer of a classifier as the families' own code does."""
    generator = torch.Generator().manual_seed(seed)
    # A head of several layers, as RoBERTa's, ends with the classifier.
    *_, classifier = (module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        classifier.weight.normal_(0.0, model.config.initializer_range, generator=generator)
        if classifier.bias is not None:
            classifier.bias.zero_()


def _named_labels(config: PretrainedConfig, name: str, task: str) -> list[str] | None:
    """The labels of a model's classifier by id, None where its configuration only numbers them."""
    try:
        return TASKS[task].model_labels(config, name, [])
    except UserError:
        found = [str(label) for label in config.id2label.values()]
        return None if all(label.startswith("LABEL_") for label in found) else found


def _in_order(named: Sequence[str], labels: Sequence[str]) -> tuple[str, ...] | None:
    """`labels` in the order of the model's, None where they are others; letter case is ignored if it has to be."""
    for spelling in (str, str.casefold):
        spelt = {spelling(label): label for label in labels}
        if len(spelt) == len(labels) and sorted(map(spelling, named)) == sorted(spelt):
            return tuple(spelt[spelling(label)] for label in named)
    return None
