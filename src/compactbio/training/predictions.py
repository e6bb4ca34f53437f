"""Predictions as files: a model's written for others to score, another system's read and scored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compactbio import formats
from compactbio.documents import Document, Question, Span
from compactbio.errors import UserError
from compactbio.formats.bioasq import read_questions, write_answers
from compactbio.formats.faults import counting_left_out, numbered
from compactbio.records import atomic, hashes
from compactbio.tasks import data as datasets
from compactbio.tasks import ner, qa, relation
from compactbio.tasks.data import Split
from compactbio.tasks.outcome import Outcome
from compactbio.training.adapters import TASKS
from compactbio.training.evaluating import (
    UNTYPED,
    Evaluation,
    check_options,
    described,
    interval_of,
    without_types,
)

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
) -> Evaluation:
    """Score a file of predictions on a split of a data set.

    NER: documents in any format that `formats.read` knows, of a token file with several columns the last one.
    Relations: a class a line, or a row of probabilities in the order of the sorted classes. QA: a BioASQ submission.
    Raises UserError where predictions are missing or do not fit.
    """
    predicted = Path(predicted)
    if protocol != "word":
        raise UserError("Only a model can be scored by the published protocol: a file does not say its word pieces.")
    found = datasets.find(data, task, gold=gold)
    protocol = TASKS[found.task].protocol
    check_options(found, split, gold, untyped=untyped)
    with counting_left_out() as left_out:
        documents = found.read(split, whole=True)
    golden = found.golden() if split == "test" else None
    if found.task == "ner":
        sides = [documents, list(formats.read(predicted))]
        documents, others = (without_types(side) for side in sides) if untyped else sides
        outcome = ner.outcome_of_documents(documents, others)
        if untyped:
            outcome = replace(outcome, notes=(*outcome.notes, UNTYPED))
    elif found.task == "relation":
        outcome = _relations(documents, predicted)
    else:
        outcome = _answers(documents, read_questions(predicted), golden)
    outcome = replace(outcome, notes=(*outcome.notes, *left_out))
    model = {"name": predicted.name, "sha256": hashes.of_file(predicted), "parameters": None}
    about = described(found, split, documents, whole=found.single)
    interval = interval_of(outcome)
    return Evaluation(found.task, protocol, outcome, interval, about, model, None, None, documents, golden, None)


def check(path: str | Path, data: str | Path, task: str | None) -> None:
    """Raise UserError where predictions for a data set could not be written to `path`, before any are made."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent} to write the predictions to; make it first.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file for the predictions.")
    found = datasets.find(data, task)
    if found.task != "ner":
        return
    suffix = path.suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise UserError(f"{path}: predictions are written to a file named {', '.join(_BY_SUFFIX)}.")
    if _BY_SUFFIX[suffix] == "conll" and formats.recognise(next(iter(found.files.values()))) != "conll":
        raise UserError(
            f"{path}: a token file cannot say where in {found.name}, which is raw text, a mention stands; "
            "name a file .jsonl, .pubtator or .xml."
        )


def write(evaluation: Evaluation, path: str | Path) -> None:
    """Write a model's predictions: documents by the suffix (.tsv, .xml, .pubtator, .jsonl), a class a line, or a BioASQ
    submission."""
    path = Path(path)
    if evaluation.task == "relation":
        atomic.write_text(path, "".join(f"{label}\n" for label in evaluation.predictions))
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


def _relations(documents: Sequence[Document], predicted: Path) -> Outcome:
    scheme = relation.scheme(map(relation.label_of, documents))
    rows = [line.split("\t") for _, line in numbered(predicted)]
    if all(len(row) == 1 for row in rows):
        labels = [scheme.map(row[0]) for row in rows]
    else:
        labels = [scheme.classes[i] for i in _probabilities(predicted, rows, len(scheme.classes)).argmax(-1)]
    return relation.outcome(documents, labels, scheme)


def _probabilities(path: Path, rows: Sequence[Sequence[str]], classes: int) -> "np.ndarray[tuple[int, int]]":
    for number, row in enumerate(rows, 1):
        if len(row) != classes:
            raise UserError(f"{path}, line {number}: {len(row)} columns for {classes} classes; give one for each.")
    try:
        found = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {error}; give a class a line, or one probability a class.") from None
    if not (np.abs(found.sum(-1) - 1) < 0.01).all():
        raise UserError(f"{path}: its columns are no probabilities of a row; give a class a line, or these.")
    return found


def _answers(
    documents: Sequence[Document], predicted: Mapping[str, Question], golden: Mapping[str, Question] | None
) -> Outcome:
    # Places stand for probabilities, which a submission does not hold.
    asked = golden or qa.questions(documents)
    missing = [key for key, one in asked.items() if one.kind == "factoid" and one.answers and key not in predicted]
    if missing:
        raise UserError(
            f"The predictions lack {len(missing)} of the factoid questions, the first is {missing[0]}; give every "
            "question, with an empty list where no answer was found."
        )
    ranked = {
        key: [(answer[0], 1.0 / place) for place, answer in enumerate(one.answers, 1) if answer]
        for key, one in predicted.items()
    }
    return qa.outcome(documents, ranked, golden)
