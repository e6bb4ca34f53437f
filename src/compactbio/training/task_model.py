"""The module that fine-tuning trains: which classifier it starts from, and the losses of a task on packed rows."""

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
from compactbio.modeling.loading import Source
from compactbio.modeling.packing import ARCHITECTURES, NO_LABEL, Packed, PackedSoftLabels, task_logits
from compactbio.objectives import Counts, Losses, counts_of, labelled
from compactbio.objectives.attention import wide
from compactbio.objectives.terms import probabilities_kl
from compactbio.tasks.registry import TASKS
from compactbio.tasks.settings import has_independent_outputs

# Bits of the labels of a question answering row: the answer's first and last piece.
START, END = 1, 2


class TaskModel(nn.Module):
    """Trains `student`, an encoder with the head of `task` ("ner", "relation" or "qa"), on packed rows.

    The loss is (1 - w) * cross-entropy with the gold labels + w * T^2 * KL(teacher || student) per unit (a word, a
    pair, a question). With a weight `w` above 0 all rows have soft labels, at temperature T; those without gold labels
    have the second part alone.

    `allowed` (ids, labels) says of each id in the gold labels of words which labels it may stand for; None where each
    stands for itself.
    """

    _allowed: Tensor | None

    def __init__(
        self,
        student: PreTrainedModel,
        task: str,
        weight: float = 0.0,
        temperature: float = 1.0,
        allowed: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("_allowed", allowed, persistent=False)
        self.student, self._task = student, task
        self._weight, self._temperature = weight, temperature

    def forward(self, batch: Packed, at: Tensor, counts: Counts) -> Losses:
        """The loss of a packed row whose labels are `at` (n,) its places, divided by `counts.masked`."""
        logits = task_logits(self.student, self._task, batch)
        if self._allowed is None:
            gold = LOSSES[self._task](logits, batch, at) / counts.masked
        else:
            gold = partial_loss(logits, batch, at, self._allowed) / counts.masked
        if not self._weight:
            return Losses(gold, {self._task: gold})
        assert batch.soft is not None  # with a weight all rows have soft labels
        soft = self._weight * SOFT_LOSSES[self._task](logits, batch.soft, self._temperature) / counts.masked
        gold = (1 - self._weight) * gold
        return Losses(gold + soft, {self._task: gold, "teacher": soft})

    def counts(self, batch: Packed) -> Counts:
        """The counts of a batch, where `masked` is what the loss is a mean over: words, sentences, or questions."""
        counts = counts_of(batch)
        if self._task == "qa":
            return counts._replace(masked=len(batch.lengths))
        if batch.soft is None:
            return counts
        return counts._replace(masked=len(torch.unique(torch.cat([labelled(batch), batch.soft.pieces]))))

    def save(self, folder: Path) -> None:
        """Write the model into a folder."""
        # By the names of its modules, which may not be those of the files that it was loaded from.
        self.student.save_pretrained(folder, save_original_format=False)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises RuntimeError where a name is missing or too many."""
        load_model(self.student, folder / "model.safetensors", strict=True)


def token_loss(logits: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum of the cross-entropies at labelled tokens; logits are (tokens, labels)."""
    return cross_entropy(logits[at].float(), batch.labels[at], reduction="sum")


def partial_loss(logits: Tensor, batch: Packed, at: Tensor, allowed: Tensor) -> Tensor:
    """The sum over labelled tokens of -log of the probability of all labels that a gold label may stand for.

    logits (tokens, labels); at (n,), the places of labels; allowed (ids, labels), whether a label is one that the id of
    a gold label may stand for. Source: marginal likelihood of partial labels, as in Greenberg et al. 2018 (EMNLP,
    "Marginal Likelihood Training of BiLSTM-CRF for Biomedical Named Entity Recognition from Disjoint Label Sets"), per
    token.
    """
    values = wide(logits)[at]  # (n, labels)
    possible = values.masked_fill(~allowed[batch.labels[at]], -torch.inf)
    return (values.logsumexp(-1) - possible.logsumexp(-1)).sum()


def class_loss(logits: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum of the cross-entropies of the rows' classes, with labels at their first tokens; logits are (rows,
    classes). A row without a label counts nothing."""
    firsts = torch.tensor(batch.borders[:-1], device=batch.labels.device)
    return cross_entropy(logits.float(), batch.labels[firsts], reduction="sum", ignore_index=NO_LABEL)


def span_loss(logits: Tensor, batch: Packed, at: Tensor) -> Tensor:
    """The sum over rows of the mean cross-entropy of the answer's start and end among the row's tokens.

    The bits START and END of the labels mark the two; logits are (tokens, 2). A row without them counts nothing.
    Source: Devlin et al. 2019, 4.2.
    """
    lengths = batch.lengths
    split = torch.split(logits.float(), lengths)
    padded = pad_sequence(list(split), batch_first=True, padding_value=-torch.inf)  # (rows, longest, 2)
    labels = pad_sequence(list(torch.split(batch.labels.clamp(min=0), lengths)), batch_first=True)  # (rows, longest)
    losses = []
    for i, bit in enumerate((START, END)):
        marked = labels & bit
        place = torch.where(marked.any(1), marked.argmax(1), NO_LABEL)
        losses.append(cross_entropy(padded[..., i], place, reduction="sum", ignore_index=NO_LABEL))
    return (losses[0] + losses[1]) / 2


LOSSES: dict[str, Callable[[Tensor, Packed, Tensor], Tensor]]
LOSSES = {"ner": token_loss, "relation": class_loss, "qa": span_loss}


def soft_span_loss(logits: Tensor, soft: PackedSoftLabels, temperature: float) -> Tensor:
    """The sum over rows of the mean T^2 * KL(teacher || student) of the words where the answer starts and ends.

    A row's distribution is over its words and one unit more, all that is outside the passage; a unit's logit is the
    logarithm of the sum of its pieces' exponentials, as the softmax over pieces adds up. logits are (tokens, 2).
    """
    units = _summed(wide(logits)[soft.pieces], soft.units, len(soft.targets))  # (units, 2)
    counts = list(soft.counts)
    # No unit: so improbable that nothing is added, and finite, so that 0 times it is 0.
    student = pad_sequence(list(torch.split(units, counts)), batch_first=True, padding_value=_NOTHING)
    teacher = pad_sequence(list(torch.split(soft.targets, counts)), batch_first=True)
    student, teacher = (rows.transpose(1, 2).flatten(0, 1) for rows in (student, teacher))  # (2 * rows, most units)
    return probabilities_kl(student, teacher, temperature) / 2


# The sum of T^2 * KL(teacher || student) over units, by task: over words, each read at its first piece, of logits
# (tokens, labels); over rows, of logits (rows, classes); or as for `soft_span_loss`.
SOFT_LOSSES: dict[str, Callable[[Tensor, PackedSoftLabels, float], Tensor]] = {
    "ner": lambda logits, soft, temperature: probabilities_kl(logits[soft.pieces], soft.targets, temperature),
    "relation": lambda logits, soft, temperature: probabilities_kl(logits, soft.targets, temperature),
    "qa": soft_span_loss,
}
_NOTHING = -1e30


def _summed(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """The logarithm of the sum of exponentials in each group: (pieces, columns) to (count, columns)."""
    index = groups[:, None].expand_as(values)
    most = values.new_full((count, values.shape[1]), _NOTHING).scatter_reduce(0, index, values.detach(), "amax")
    total = torch.zeros_like(most).index_add(0, groups, (values - most[groups]).exp())
    return total.log() + most


# -- the classifier that fine-tuning starts from


class TaskHead(NamedTuple):
    """The labels in the order of their ids, whether the model's own classifier is drawn afresh, and sentences on it."""

    labels: tuple[str, ...]
    fresh: bool = False
    notes: tuple[str, ...] = ()


def choose_head(source: Source, task: str, labels: Sequence[str]) -> TaskHead:
    """Decide between the classifier that a model has and a fresh one for the labels of the training data (none for QA).

    One of the same task and labels is trained further, in its own order of labels; letter case does not tell labels
    apart.
    """
    name, config = source.public_name(), source.config
    architecture = (config.architectures or [""])[0]
    if architecture and not architecture.endswith(tuple(ARCHITECTURES.values())):
        return TaskHead(tuple(labels))

    def fresh(why: str) -> TaskHead:
        note = f"A fresh head was drawn; that of {name} is not used, because {why}."
        return TaskHead(tuple(labels), True, (note,))

    if architecture and not architecture.endswith(ARCHITECTURES[task]):
        return fresh(f"it is a {architecture}")
    if task == "qa":
        return TaskHead(()) if not architecture or config.num_labels == 2 else fresh("it has other outputs than two")
    if task == "relation" and (config.num_labels == 1 or has_independent_outputs(config)):
        return fresh("its outputs are not those of one choice among classes")
    named = _named_labels(config, name, task)
    if named is None:
        return fresh("its labels have no names") if architecture else TaskHead(tuple(labels), True)
    ordered = _in_order(named, labels)
    if ordered is None:
        listed = ", ".join(named[:12]) + (f" and {len(named) - 12} more" if len(named) > 12 else "")
        return fresh(f"its labels are others ({listed})")
    if named == list(labels):
        return TaskHead(tuple(labels))
    note = f"The head of {name} is trained further with its own order of labels; the data have another order or case."
    return TaskHead(ordered, notes=(note,))


def draw_classifier(model: PreTrainedModel, seed: int) -> None:
    """Draw a classifier as the families' own code does, all layers of one that has several, as RoBERTa's."""
    generator = torch.Generator().manual_seed(seed)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    named = getattr(model, "classifier", linear[-1])
    with torch.no_grad():
        for layer in named.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0.0, model.config.initializer_range, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()


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
