"""Predictions as files: another system's read and scored, a model's written for others to score."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compactbio import formats
from compactbio.documents import Document, Question
from compactbio.documents.names import clean, key
from compactbio.errors import UserError, check_named
from compactbio.evaluation.scoring import UNTYPED, Evaluation, check_options, described, protocol_of
from compactbio.files import refuse_inside, write_text
from compactbio.formats.checks import counting_left_out
from compactbio.formats.questions import read_answers, write_answers
from compactbio.formats.sources import check_regular
from compactbio.formats.streams import lines, named_errors
from compactbio.modeling import runtimes
from compactbio.tasks import data as datasets
from compactbio.tasks import ner, qa, relation
from compactbio.tasks.data import Split
from compactbio.tasks.outcome import Outcome, counted, interval_of
from compactbio.tasks.relation_classes import looks_negative
from compactbio.tasks.settings import decoding

_HEADERS = frozenset(("label", "class", "relation", "prediction", "predicted"))
_NUMBER = re.compile(r"[-+]?([0-9.]+(e[-+]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE)
_FORMATS = {
    ".tsv": "conll", ".conll": "conll", ".xml": "bioc", ".pubtator": "pubtator", ".jsonl": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
_EITHER = "give a class per line, or one probability per class"


def evaluate_file(
    predicted: str | Path,
    data: str | Path,
    *,
    task: str | None = None,
    protocol: str = "word",
    split: Split | None = None,
    gold: str | Path | None = None,
    untyped: bool = False,
    format: str | None = None,
    negative: Sequence[str] | None = None,
    scheme: str | None = None,
) -> Evaluation:
    """Score a file of another system's predictions on a split of a data set.

    NER: documents in any format that `formats.read` knows, of a token file with several columns the last one.
    Relations: a class per line, or a row of probabilities per line under a header of the classes, by default in the
    order of the sorted classes of all splits. QA: a BioASQ submission. What is wrong in the predictions counts against
    them and is reported in the notes. The arguments are those of `compactbio.evaluate`; the protocol "published" needs
    a model. Raises UserError where the
    predictions do not fit the data.
    """
    predicted = Path(check_named(predicted, "The file of predictions"))
    if not predicted.exists():
        raise UserError(f"{predicted}: there is no such file of predictions.")
    check_regular(predicted)
    if protocol != "word":
        raise UserError(
            "Only a model can be scored by the published protocol: a file does not say its word pieces.",
            setting="protocol",
        )
    found, split = datasets.find(data, task, gold=gold, format=format), split or "test"
    check_options(found, split, gold, protocol, untyped=untyped, classes=negative or scheme)
    with counting_left_out() as left_out:
        documents = found.read(split, whole=True)
    golden = found.golden(split)
    found.check_answers(documents, split)
    if found.task == "ner":
        outcome = _score_mentions(documents, predicted, untyped=untyped)
    elif found.task == "relation":
        # One split alone may lack some labels, the negative one too.
        others = [] if found.single else [d for other in found.files if other != split for d in found.read(other)]
        labels = [relation.label_of(document) for document in (*documents, *others)]
        outcome = _score_relations(documents, predicted, labels, negative or None, scheme)
    else:
        outcome = _score_answers(documents, read_answers(predicted), golden)
    outcome = replace(outcome, notes=(*outcome.notes, *left_out))
    return Evaluation(
        task=found.task,
        protocol=protocol_of(found.task, protocol, untyped=untyped),
        outcome=outcome,
        interval=interval_of(outcome),
        data=described(found, split, documents, whole=found.single),
        model={"name": predicted.name, "sha256": datasets.digest(predicted), "parameters": None},
        documents=documents,
        golden=golden,
    )


def _score_mentions(documents: Sequence[Document], path: Path, *, untyped: bool) -> Outcome:
    with counting_left_out("the predictions") as left_out:
        predicted = list(formats.read(path))
    misplaced = left_out.mentions
    if untyped:
        documents, predicted = ner.with_type(documents, ""), ner.with_type(predicted, "")
        misplaced = {name: [""] * len(kinds) for name, kinds in misplaced.items()}
    outcome = ner.outcome_of_documents(documents, predicted, misplaced)
    return replace(outcome, notes=(*outcome.notes, *left_out, *([UNTYPED] if untyped else [])))


def _score_relations(
    documents: Sequence[Document], path: Path, labels: Sequence[str], negative: Sequence[str] | None, name: str | None
) -> Outcome:
    """`labels` are those of all splits, as often as they occur: one alone may lack some, the negative one too."""
    with named_errors(path):
        rows = [tuple(map(clean, line.split("\t"))) for _, line in lines(path)]
    # A class that only the system gives can be named as negative too.
    given = {row[0] for row in rows if len(row) == 1 and key(row[0]) in map(key, negative or ())}
    scheme = relation.scheme([*labels, *sorted(given)], negative, name)
    if all(len(row) == 1 for row in rows):
        return _score_classes(documents, path, [row[0] for row in rows], scheme)
    classes = scheme.classes
    if _is_header(rows[0], classes, rows=len(rows), examples=len(documents)):
        classes, rows = rows[0], rows[1:]
    foreign = [name for name in classes if not looks_negative(name) and scheme.find(name) is None]
    if foreign or len(set(classes)) < len(classes):
        raise UserError(
            f"{path}: its first line {', '.join(classes)[:80]!r} does not name classes once each, which are "
            f"{', '.join(scheme.classes)}; {_EITHER}."
        )
    _check_number(documents, rows, path)
    best = _probabilities(path, rows, len(classes)).argmax(-1)
    outcome = relation.outcome(documents, [classes[i] for i in best], scheme)
    return replace(outcome, notes=(*outcome.notes, f"Columns are taken as the probabilities of {', '.join(classes)}."))


def _score_classes(documents: Sequence[Document], path: Path, labels: list[str], scheme: relation.Scheme) -> Outcome:
    if len(labels) == len(documents) + 1 and labels[0].casefold() in _HEADERS:
        del labels[0]
    _check_number(documents, labels, path)
    if not any(looks_negative(label) or scheme.find(label) for label in labels):
        raise UserError(f"{path}: no line is one of the classes {', '.join(scheme.classes)}; {_EITHER}.")
    return relation.outcome(documents, labels, scheme)


def _check_number(documents: Sequence[Document], rows: Sequence[object], path: Path) -> None:
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


def _probabilities(path: Path, rows: Sequence[Sequence[str]], classes: int) -> NDArray[np.float64]:
    for number, row in enumerate(rows, 1):
        if len(row) != classes:
            raise UserError(f"{path}, line {number}: {len(row)} columns for {classes} classes; give one for each.")
    try:
        found = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {_EITHER}.") from None
    # A comparison with NaN is false.
    inside = np.all((found >= 0) & (found <= 1), axis=-1)
    wrong = ~inside | (np.abs(np.where(inside[:, None], found, 0).sum(-1) - 1) >= 0.01)
    if wrong.any():
        raise UserError(
            f"{path}: row {int(wrong.argmax()) + 1} does not hold probabilities, which are in [0, 1] and have the sum "
            "1; give these, or a class per line."
        )
    return found


def _score_answers(
    documents: Sequence[Document], predicted: Mapping[str, Sequence[str]], golden: Mapping[str, Question] | None
) -> Outcome:
    asked = golden or qa.questions(documents)
    missing = [name for name, q in asked.items() if q.kind == "factoid" and q.answers and name not in predicted]
    if missing:
        raise UserError(
            f"The predictions lack {len(missing)} of the factoid questions, the first is {missing[0]}; give every "
            "question, with an empty list where no answer was found."
        )
    # A submission holds no probabilities: those of the ranks decide.
    ranked = {name: [(text, 1.0 / rank) for rank, text in enumerate(texts, 1)] for name, texts in predicted.items()}
    outcome = qa.outcome(documents, ranked, golden)
    extra = counted(
        {"questions of the predictions are not in the data and are left out": len(predicted.keys() - asked.keys())}
    )
    return replace(outcome, notes=(*outcome.notes, *extra))


def check_writable(
    path: str | Path,
    data: str | Path,
    model: str | Path,
    task: str | None,
    format: str | None = None,
    *,
    untyped: bool = False,
) -> None:
    """Raise UserError where predictions of a model for a data set cannot be written to `path`, before any are made."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent} to write the predictions to; make it first.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file for the predictions.")
    found = datasets.find(data, task, format=format)
    refuse_inside(path, found.places, "write_predictions")
    if path.exists():
        raise UserError(
            f"{path} exists: remove it, or name another file for the predictions.", setting="write_predictions"
        )
    if found.task != "ner":
        return
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise UserError(f"{path}: predictions are written to a file named {', '.join(_FORMATS)}.")
    first = next(iter(formats.read(next(iter(found.files.values())), found.format)), None)
    if _FORMATS[suffix] == "conll" and not (first and first.tokenised):
        raise UserError(
            f"{path}: a token file cannot hold the offsets of mentions in {found.name}, which is raw text; "
            "name a file .jsonl, .parquet, .pubtator or .xml."
        )
    apart = _FORMATS[suffix] == "conll" and decoding(runtimes.find(model).config).by_type
    if apart and (untyped or len(found.types) > 1):
        raise UserError(
            f"{path}: a token file cannot hold mentions that overlap, and those of different types of "
            f"{Path(model).name} may; name a file .jsonl, .parquet, .pubtator or .xml."
        )


def write(evaluation: Evaluation, path: str | Path) -> None:
    """Write a model's predictions: for NER as the suffix of the path says (.tsv, .conll, .xml, .pubtator, .jsonl,
    .parquet), for relations a class per line, for QA a BioASQ submission."""
    path = Path(path)
    documents, predictions = evaluation.documents, evaluation.predictions
    if evaluation.task == "relation":
        write_text(path, "".join(f"{label}\n" for label in predictions))
    elif evaluation.task == "qa":
        ranked = {name: [text for text, _ in answers] for name, answers in predictions.items()}
        # All questions of the gold: the official evaluator stops at one without an entry.
        write_answers(path, ranked, evaluation.golden or qa.questions(documents))
    else:
        found = map(dict.fromkeys, ner.document_spans(documents, evaluation.sentences, predictions))
        annotated = (replace(d, spans=tuple(s), relations=()) for d, s in zip(documents, found, strict=True))
        formats.write(annotated, path, _FORMATS[path.suffix.lower()])
