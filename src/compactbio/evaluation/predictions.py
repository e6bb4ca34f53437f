"""Predictions as files: a model's written for others to score, another system's read and scored."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compactbio import formats
from compactbio.documents import Document, Question, Span
from compactbio.documents.names import clean, key
from compactbio.errors import UserError
from compactbio.evaluation.scoring import UNTYPED, Evaluation, check_options, described, without_types
from compactbio.files import write_text
from compactbio.formats.bioasq import read_answers, write_answers
from compactbio.formats.checks import counting_left_out
from compactbio.formats.streams import lines, named_errors
from compactbio.tasks import data as datasets
from compactbio.tasks import ner, qa, relation
from compactbio.tasks.data import Split
from compactbio.tasks.outcome import Outcome
from compactbio.tasks.registry import TASKS
from compactbio.tasks.relation_classes import looks_negative
from compactbio.tasks.statistics import interval_of

_HEADERS = frozenset(("label", "class", "relation", "prediction", "predicted"))
_NUMBER = re.compile(r"[-+]?([0-9.]+(e[-+]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE)
_BY_SUFFIX = {".tsv": "conll", ".conll": "conll", ".xml": "bioc", ".pubtator": "pubtator", ".jsonl": "jsonl"}


def evaluate_file(
    predicted: str | Path,
    data: str | Path,
    *,
    task: str | None = None,
    protocol: str = "word",
    split: Split = "test",
    gold: str | Path | None = None,
    untyped: bool = False,
    format: str | None = None,
    negative: Sequence[str] | None = None,
    scheme: str | None = None,
) -> Evaluation:
    """Score a file of predictions on a split of a data set.

    NER: documents in any format that `formats.read` knows, of a token file with several columns the last one.
    Relations: a class per line, or a row of probabilities per line under a header of the classes, by default in the
    order of the sorted classes of all splits; `negative` and `scheme` as of `tasks.scheme.scheme`. QA: a BioASQ
    submission. What is wrong in the predictions counts against them and stands in the notes. Raises UserError where
    they do not fit.
    """
    predicted = Path(predicted)
    if protocol != "word":
        raise UserError("Only a model can be scored by the published protocol: a file does not say its word pieces.")
    found = datasets.find(data, task, gold=gold, format=format)
    protocol = TASKS[found.task].protocol
    check_options(found, split, gold, untyped=untyped, classes=negative or scheme)
    with counting_left_out() as left_out:
        documents = found.read(split, whole=True)
    golden = found.golden() if split == "test" else None
    if found.task == "ner":
        outcome = _mentions(documents, predicted, untyped=untyped)
    elif found.task == "relation":
        others = [] if found.single else [one for other in found.files if other != split for one in found.read(other)]
        labels = {relation.label_of(document) for document in (*documents, *others)}
        outcome = _relations(documents, predicted, labels, negative or None, scheme)
    else:
        outcome = _answers(documents, read_answers(predicted), golden)
    outcome = replace(outcome, notes=(*outcome.notes, *left_out))
    model = {"name": predicted.name, "sha256": datasets.digest(predicted), "parameters": None}
    about = described(found, split, documents, whole=found.single)
    interval = interval_of(outcome)
    return Evaluation(found.task, protocol, outcome, interval, about, model, None, None, documents, golden, None)


def check(path: str | Path, data: str | Path, task: str | None, format: str | None = None) -> None:
    """Raise UserError where predictions for a data set could not be written to `path`, before any are made."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent} to write the predictions to; make it first.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file for the predictions.")
    found = datasets.find(data, task, format=format)
    if found.task != "ner":
        return
    suffix = path.suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise UserError(f"{path}: predictions are written to a file named {', '.join(_BY_SUFFIX)}.")
    if _BY_SUFFIX[suffix] == "conll" and not _is_tokenised(found):
        raise UserError(
            f"{path}: a token file cannot say where in {found.name}, which is raw text, a mention stands; "
            "name a file .jsonl, .pubtator or .xml."
        )


def _is_tokenised(found: datasets.Data) -> bool:
    first = next(iter(formats.read(next(iter(found.files.values())), found.format)), None)
    return first is not None and first.tokenised


def write(evaluation: Evaluation, path: str | Path) -> None:
    """Write a model's predictions: documents by the suffix (.tsv, .xml, .pubtator, .jsonl), a class a line, or a BioASQ
    submission."""
    path = Path(path)
    if evaluation.task == "relation":
        write_text(path, "".join(f"{label}\n" for label in evaluation.predictions))
        return
    if evaluation.task == "qa":
        ranked = {key: [text for text, _ in answers] for key, answers in evaluation.predictions.items()}
        # All questions of the gold: the official evaluator stops at one without an entry.
        asked = evaluation.golden or qa.questions(evaluation.documents)
        write_answers(path, ranked, asked)
        return
    format_ = _BY_SUFFIX[path.suffix.lower()]
    parts = ner.split(evaluation.documents)
    found: list[list[Span]] = [[] for _ in evaluation.documents]
    for part, tags in zip(parts, evaluation.predictions, strict=True):
        found[part.document] += ner.spans(part, tags)
    pairs = zip(evaluation.documents, found, strict=True)
    formats.write((replace(d, spans=tuple(own), relations=()) for d, own in pairs), path, format_)


def _mentions(documents: Sequence[Document], predicted: Path, *, untyped: bool) -> Outcome:
    with counting_left_out("the predictions") as left_out:
        others = list(formats.read(predicted))
    misplaced = left_out.mentions
    if untyped:
        documents, others = without_types(documents), without_types(others)
        misplaced = {name: [""] * len(kinds) for name, kinds in misplaced.items()}
    outcome = ner.outcome_of_documents(documents, others, misplaced)
    return replace(outcome, notes=(*outcome.notes, *left_out, *([UNTYPED] if untyped else [])))


def _relations(
    documents: Sequence[Document],
    predicted: Path,
    labels: set[str],
    negative: Sequence[str] | None,
    name: str | None,
) -> Outcome:
    """`labels` are those of all splits: one alone may lack some, the negative one too."""
    with named_errors(predicted):
        rows = [tuple(map(clean, line.split("\t"))) for _, line in lines(predicted)]
    # A class that only the system gives can be named as negative too.
    given = {row[0] for row in rows if len(row) == 1 and key(row[0]) in map(key, negative or ())}
    scheme = relation.scheme(labels | given, negative, name)
    if all(len(row) == 1 for row in rows):
        return _of_classes(documents, predicted, [row[0] for row in rows], scheme)
    classes = scheme.classes
    if _is_header(rows[0], classes, rows=len(rows), examples=len(documents)):
        classes, rows = rows[0], rows[1:]
    foreign = [name for name in classes if not looks_negative(name) and scheme.find(name) is None]
    if foreign or len(set(classes)) < len(classes):
        raise UserError(
            f"{predicted}: its first line {', '.join(classes)[:80]!r} does not name classes once each, which are "
            f"{', '.join(scheme.classes)}; give a class per line, or one probability per class."
        )
    _same_number(documents, rows, predicted)
    best = _probabilities(predicted, rows, len(classes)).argmax(-1)
    outcome = relation.outcome(documents, [classes[i] for i in best], scheme)
    return replace(outcome, notes=(*outcome.notes, f"Columns are taken as the probabilities of {', '.join(classes)}."))


def _of_classes(documents: Sequence[Document], path: Path, labels: list[str], scheme: relation.Scheme) -> Outcome:
    if len(labels) == len(documents) + 1 and labels[0].casefold() in _HEADERS:
        del labels[0]
    _same_number(documents, labels, path)
    if not any(looks_negative(label) or scheme.find(label) for label in labels):
        raise UserError(
            f"{path}: no line is one of the classes {', '.join(scheme.classes)}; give a class per line, or one "
            "probability per class."
        )
    return relation.outcome(documents, labels, scheme)


def _same_number(documents: Sequence[Document], rows: Sequence[object], path: Path) -> None:
    if len(rows) != len(documents):
        raise UserError(
            f"{path} holds {len(rows):,} predictions for {len(documents):,} examples: give one per line, in the order "
            "of the data, without a header or blank lines."
        )


def _is_header(row: Sequence[str], classes: Sequence[str], *, rows: int, examples: int) -> bool:
    """Whether the first row of a table names its columns; classes that are numbers do so where a row is too many."""
    if all(map(_NUMBER.fullmatch, row)):
        return set(row) == set(classes) and rows == examples + 1
    return True


def _probabilities(path: Path, rows: Sequence[Sequence[str]], classes: int) -> "np.ndarray[tuple[int, int]]":
    for number, row in enumerate(rows, 1):
        if len(row) != classes:
            raise UserError(f"{path}, line {number}: {len(row)} columns for {classes} classes; give one for each.")
    try:
        found = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {error}; give a class per line, or one probability per class.") from None
    # Neither a NaN nor an infinite number lies there.
    inside = np.all((found >= 0) & (found <= 1), axis=-1)
    wrong = ~inside | (np.abs(np.where(inside[:, None], found, 0).sum(-1) - 1) >= 0.01)
    if wrong.any():
        raise UserError(
            f"{path}: row {int(wrong.argmax()) + 1} holds no probabilities, which lie in [0, 1] and have the sum 1; "
            "give these, or a class per line."
        )
    return found


def _answers(
    documents: Sequence[Document], predicted: Mapping[str, Sequence[str]], golden: Mapping[str, Question] | None
) -> Outcome:
    asked = golden or qa.questions(documents)
    missing = [key for key, one in asked.items() if one.kind == "factoid" and one.answers and key not in predicted]
    if missing:
        raise UserError(
            f"The predictions lack {len(missing)} of the factoid questions, the first is {missing[0]}; give every "
            "question, with an empty list where no answer was found."
        )
    # Places stand for probabilities, which a submission does not hold.
    ranked = {
        key: [(answer, 1.0 / place) for place, answer in enumerate(answers, 1)] for key, answers in predicted.items()
    }
    outcome = qa.outcome(documents, ranked, golden)
    more = len(predicted.keys() - asked.keys())
    note = f"{more:,} questions of the predictions are not in the data and are left out."
    return replace(outcome, notes=(*outcome.notes, *([note] if more else [])))
