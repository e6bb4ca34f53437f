"""Relation extraction as the classification of sentences with two marked mentions: classes, scores, rows."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.modeling.packing import NO_LABEL, Row, softmax
from compactbio.modeling.tokenizers import WordPieces, template, word_pieces
from compactbio.tasks.outcome import Mistake, Outcome, counted, listed, rates
from compactbio.tasks.relation_classes import Scheme, looks_negative, scheme
from compactbio.tasks.settings import (
    RELATION_CLASSES,
    Settings,
    has_independent_outputs,
    named_labels,
    stored_settings,
)

__all__ = ["Scheme", "label_of", "outcome", "scheme", "score"]

# The name of the class of no relation where a model has no output for it.
NO_RELATION = "no relation"
# Mentions as GAD (@GENE$), ChemProt's first (<< .. >>) and second ([[ .. ]]) are marked.
_MARK = re.compile(r"@[\w-]+\$|<<.*?>>|\[\[.*?\]\]")


def label_of(document: Document) -> str:
    """The type of a document's one relation. Raises UserError where it has none or several."""
    if len(document.relations) != 1:
        raise UserError(
            f"Document {document.id!r} has {len(document.relations)} relations, and relation extraction needs one text "
            "for each marked pair; compactbio.mark_pairs makes them of documents with mentions and relations."
        )
    return document.relations[0].type


def scheme_of(documents: Sequence[Document], settings: Settings) -> Scheme:
    """The scheme of training documents (see `relation_classes.scheme`)."""
    return scheme(map(label_of, documents), settings.negative, settings.scheme)


def scheme_of_model(labels: Sequence[str], config: PretrainedConfig, name: str) -> Scheme:
    """The scheme of a model's labels, as its configuration keeps it. Raises UserError where that is of other labels."""
    stored = stored_settings(config, "relation")
    try:
        return scheme(labels, stored.get("negative"), stored.get("scheme"))
    except UserError as error:
        if not stored:
            raise
        # The labels were renamed in the file: no option and no other file changes what it says of them.
        problem = str(error).removesuffix(".")
        raise UserError(
            f"{name}: {RELATION_CLASSES} in its config.json does not fit the labels of id2label there "
            f"({problem[:1].lower()}{problem[1:]}): write the labels of id2label into it."
        ) from None


def scheme_scored(own: Scheme, config: PretrainedConfig) -> Scheme:
    """The scheme that a model is scored by: its own, with a class of no relation where its outputs are independent and
    none is that class, as none of them may be likely."""
    if own.negative is not None or not has_independent_outputs(config):
        return own
    return scheme([*own.classes, NO_RELATION], [NO_RELATION], own.memory()["scheme"])


def model_labels(config: PretrainedConfig, name: str, documents: Sequence[Document] = ()) -> list[str]:
    """The classes of a model by id; of a single output the second of two, the first being no relation.

    Raises UserError where its configuration does not name them, and where the documents that it is to be scored on
    have none of its classes, or the configuration's classes are not its labels.
    """
    if config.problem_type == "regression":
        raise UserError(f"{name}: its problem_type is regression, so its output is not that of a class.")
    # The published model of GAD tells two classes apart that have no names.
    if list(config.id2label.values()) in (["LABEL_0", "LABEL_1"], ["LABEL_0"]):
        labels = ["0", "1"]
    else:
        labels = named_labels(config, name)
        labels = labels if len(labels) > 1 else [NO_RELATION, *labels]
    wanted = set(map(label_of, documents))
    if not wanted:
        return labels
    classes = scheme_scored(scheme_of_model(labels, config, name), config)
    if wanted <= {"0", "1"} and labels == ["0", "1"]:
        return labels
    known = {classes.find(label) for label in wanted} - {None}
    if not known or (known <= set(classes.negatives) and len(wanted) > len(known)):
        raise UserError(
            f"{name} tells {listed(set(labels))} apart, the data hold {listed(wanted)}: score it on data "
            "with its own classes, or fine-tune a model on these."
        )
    return labels


def score(
    gold: Sequence[str],
    predicted: Sequence[str],
    evaluated: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
) -> dict[str, float]:
    """Micro precision, recall and F1 over the `evaluated` classes, and accuracy over all; all in [0, 1].

    Where one class is evaluated there is `specificity`, the share of the other examples that are not given it. A
    predicted class that the gold lacks counts as wrong.

    Args:
        gold: the label of each example.
        predicted: the label predicted for each.
        evaluated: the classes that are scored; by default labels become classes, and classes are chosen, by the
            scheme of the gold labels.
        negative: the labels of no relation, where their names do not say so.

    Raises UserError where the two sides differ in length, and for a label that a scheme of fixed classes (binary,
    ChemProt) does not have.
    """
    if len(gold) != len(predicted):
        raise UserError(f"The gold has {len(gold)} labels, the predictions {len(predicted)}; they must be the same.")
    if evaluated is None:
        classes = scheme(gold, negative)
        gold, predicted = [classes.map(label) for label in gold], [classes.map(label) for label in predicted]
        evaluated = _scored(classes, [*gold, *predicted])
    counts = _counts(gold, predicted, evaluated)
    scores = {**rates(*counts.sum(0).tolist()), "accuracy": sum(map(str.__eq__, gold, predicted)) / max(len(gold), 1)}
    if len(evaluated) == 1:
        others = [guess for label, guess in zip(gold, predicted, strict=True) if label != evaluated[0]]
        scores["specificity"] = sum(guess != evaluated[0] for guess in others) / max(len(others), 1)
    return scores


def outcome(documents: Sequence[Document], predicted: Sequence[str], scheme: Scheme) -> Outcome:
    """The outcome of the labels predicted for documents; a unit is an example, its sums (tp, fp, fn).

    A class, of gold or predictions, that the scheme does not have is scored too, and reported in the notes. Raises
    UserError as `label_of` and `score` do.
    """
    gold = [scheme.map(label_of(document)) for document in documents]
    predicted = [scheme.map(label) for label in predicted]
    evaluated = _scored(scheme, [*gold, *predicted])
    support = Counter(gold)
    return Outcome(
        metric="f1",
        scores=score(gold, predicted, evaluated),
        units=_counts(gold, predicted, evaluated),
        unit="example",
        per_type={
            name: {**rates(*_counts(gold, predicted, [name]).sum(0).tolist()), "support": float(support[name])}
            for name in sorted({*gold, *predicted})
        },
        mistakes=tuple(
            _mistake(label, guess, evaluated, document.text)
            for document, label, guess in zip(documents, gold, predicted, strict=True)
            if label != guess
        ),
        notes=_notes(gold, predicted, scheme),
        scheme=scheme.record(),
    )


def _scored(scheme: Scheme, labels: Iterable[str]) -> list[str]:
    """The evaluated classes, and those of `labels` that the scheme does not know and that name a relation."""
    unknown = {label for label in set(labels) if label not in scheme.classes and not looks_negative(label)}
    return [*scheme.evaluated, *sorted(unknown)]


def _counts(gold: Sequence[str], predicted: Sequence[str], evaluated: Iterable[str]) -> NDArray[np.float64]:
    """(n, 3): each example's true positives, false positives and false negatives."""
    scored = set(evaluated)
    rows = [
        (label == guess and label in scored, label != guess and guess in scored, label != guess and label in scored)
        for label, guess in zip(gold, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _mistake(gold: str, predicted: str, evaluated: Sequence[str], context: str) -> Mistake:
    if gold in evaluated:
        return Mistake("confused" if predicted in evaluated else "missed", gold, predicted, context)
    return Mistake("spurious" if predicted in evaluated else "confused", gold, predicted, context)


def _notes(gold: Sequence[str], predicted: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    notes = [scheme.sentence]
    if scheme.negative is not None and not set(scheme.negatives) & set(gold):
        notes.append(f"Class {scheme.negative} does not occur in the data scored, which makes them easier.")
    notes += scheme.remarks
    if not set(_scored(scheme, gold)) & set(gold):
        notes.append("The data have no example of a class that is scored, so F1 is 0 whatever is predicted.")
    notes += [
        f"{count} examples are of class {label}, which the model does not have; it is always wrong on them."
        for label, count in _unknown(gold, scheme)
    ]
    notes += [
        f"{count} predictions are of class {label}, which the data do not have; they count as wrong."
        for label, count in _unknown(predicted, scheme)
        if not looks_negative(label)
    ]
    return tuple(notes)


def _unknown(labels: Sequence[str], scheme: Scheme) -> list[tuple[str, int]]:
    return sorted(Counter(label for label in labels if label not in scheme.classes).items())


@dataclass(frozen=True)
class Encoded:
    """Documents as rows, one each, of the classes of `scheme`; `shortened` sentences were too long and lost pieces,
    `unmarked` ones have none of the marks that are known."""

    rows: tuple[Row, ...]
    shortened: int
    unmarked: int
    scheme: Scheme

    @property
    def notes(self) -> tuple[str, ...]:
        return counted(
            {
                "sentences were longer than a row and were cut around their marks": self.shortened,
                "texts have none of the known marks (@GENE$, << >>, [[ ]]), by which a model sees which pair is meant; "
                "compactbio.mark_pairs marks pairs": self.unmarked,
            }
        )


def encode(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerFast,
    label_ids: Mapping[str, int],
    scheme: Scheme,
    max_length: int,
) -> Encoded:
    """The rows of documents with one relation each, [CLS] sentence [SEP] for a BERT, of at most `max_length` tokens.

    The id of the relation's class is the label of the first token, -100 where `label_ids` does not have it and at all
    others. A sentence that is too long keeps the pieces around its marks: all from the first mark to the last with as
    much on either side, or, where these are too far apart, the two with as much around each; marks that alone are
    longer than the row lose pieces. Without marks its beginning is kept. Raises UserError as `label_of` does.
    """
    special = template(tokenizer)
    room = max_length - special.size
    rows, shortened = [], 0
    for document, sentence in zip(documents, word_pieces([d.text for d in documents], tokenizer), strict=True):
        label = label_ids.get(scheme.map(label_of(document)), NO_LABEL)
        ids = sentence.ids
        if len(ids) > room:
            ids, shortened = ids[_kept(document, sentence, room)], shortened + 1
        tokens = special.ids(ids)
        labels = np.full(len(tokens), NO_LABEL)
        labels[0] = label
        rows.append(Row(tokens, labels, special.segments(ids)))
    unmarked = sum(_MARK.search(document.text) is None for document in documents)
    return Encoded(tuple(rows), shortened, unmarked, scheme)


def decode(
    logits: NDArray[np.float32], names: Sequence[str], scheme: Scheme, *, independent: bool = False
) -> list[str]:
    """The class of each row from its logits (rows, outputs); `names` are the classes in the order of their ids.

    Where outputs are `independent`, the most probable class counts if it is more probable than not, else no relation.
    """
    found = probabilities(logits, independent=independent)
    sure = (found.max(-1) >= 0.5).tolist() if independent else [True] * len(found)
    none = scheme.negative or NO_RELATION
    return [names[best] if likely else none for best, likely in zip(found.argmax(-1).tolist(), sure, strict=True)]


def reported(
    logits: NDArray[np.float32], names: Sequence[str], scheme: Scheme, *, independent: bool
) -> NDArray[np.bool_]:
    """Whether each class is reported of each row, (rows, classes): the most probable one, or all `independent` ones
    that are more probable than not; none of no relation. The arguments are those of `decode`."""
    found = probabilities(logits, independent=independent)
    likely = found >= 0.5 if independent else found.argmax(-1)[:, None] == np.arange(found.shape[-1])
    return np.asarray(likely & np.array([name not in scheme.negatives for name in names]))


def probabilities(logits: NDArray[np.float32], *, independent: bool) -> NDArray[np.float32]:
    """The probabilities (rows, classes) of logits (rows, outputs): their softmax, or the sigmoid of each `independent`
    output. A single output is that of the second of two classes."""
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    elif independent:
        return np.exp(-np.logaddexp(np.float32(0), -logits))
    return softmax(logits)


def _kept(document: Document, sentence: WordPieces, room: int) -> NDArray[np.int64]:
    """The indices of the `room` pieces that a sentence keeps."""
    found = marks(document)
    if not found:
        return np.arange(room)
    first, last = sentence.touching(*found[0]), sentence.touching(*max(found, key=lambda mark: mark[1]))
    total = len(sentence.ids)
    if last.stop - first.start <= room:
        return _around(first.start, last.stop, room, total)
    parts = zip((first, last), _shared(room, len(first), len(last)), strict=True)
    return np.unique(np.concatenate([_around(part.start, part.stop, size, total) for part, size in parts]))


def marks(document: Document) -> list[tuple[int, int]]:
    """The characters of the marks in the text and of the related mentions, sorted."""
    ends = (document.relations[0].head, document.relations[0].tail)
    related = [document.spans[end] for end in ends if isinstance(end, int) and end < len(document.spans)]
    return sorted([*(match.span() for match in _MARK.finditer(document.text)), *((s.start, s.end) for s in related)])


def _shared(room: int, first: int, second: int) -> tuple[int, int]:
    """What each of two marks of some pieces gets of a row: itself and half of what is free, or half of the row."""
    free = room - first - second
    size = first + free // 2 if free >= 0 else room // 2
    return size, room - size


def _around(first: int, last: int, size: int, total: int) -> NDArray[np.int64]:
    """`size` of `total` places with `first` to `last` in the middle, as far as the ends allow."""
    start = min(max((first + last - size) // 2, 0), total - size)
    return np.arange(start, start + size)
