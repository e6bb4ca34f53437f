"""Calibration: scores that mean how often a finding is right, and the lowest score that keeps a precision.

A finding is what an annotator reports: a mention, or a relation of a class that is not negative. It is right where
the annotated data hold it, a mention with both ends and the type.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from transformers import PretrainedConfig

from compactbio.documents import Document
from compactbio.documents.tags import parse, tagged_types
from compactbio.errors import UserError
from compactbio.tasks import ner_encoding, relation
from compactbio.tasks.alignment import comparable
from compactbio.tasks.relation_classes import Scheme
from compactbio.tasks.settings import Decoding, decoding, has_independent_outputs

CALIBRATED = ("ner", "relation")  # the tasks
BINS = 10
# A precision is measured on at least so many findings.
FEWEST = 20
_HOTTEST = 20.0  # temperatures are looked for from its inverse to it
_GRID, _ROUNDS = 41, 4
# Scores that are closer differ by the order of sums, which another batch changes.
_SAME = 1e-6
_CERTAIN = 1e-7  # a likelihood has no use for a score of 0 or 1
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Findings:
    """What a model finds in annotated data.

    Attributes:
        types: (findings,), the type or class of each, as the model names it.
        right: (findings,), whether the data hold it.
        gold: how many of each type that counts the data hold.
        scores: gives the score of each at a temperature, (findings,).
    """

    types: tuple[str, ...]
    right: NDArray[np.bool_]
    gold: Mapping[str, int]
    scores: Callable[[float], NDArray[np.float64]]


def together(parts: Sequence[Findings]) -> Findings:
    """What a model finds in several data sets, as one."""
    if len(parts) == 1:
        return parts[0]
    gold = Counter[str]()
    for part in parts:
        gold.update(part.gold)
    return Findings(
        tuple(kind for part in parts for kind in part.types),
        np.concatenate([part.right for part in parts]),
        gold,
        lambda temperature: np.concatenate([part.scores(temperature) for part in parts]),
    )


@dataclass(frozen=True)
class Point:
    """Of the findings of a type with at least a score: their number, precision, and recall."""

    score: Share
    precision: Share
    recall: Share
    kept: Count


@dataclass(frozen=True)
class Curve:
    """Precision and recall of a type by the lowest score, of `found` findings where the data hold `gold`.

    The points are those that have the lowest score for some precision, from the lowest of both to the highest; each
    keeps FEWEST findings or more.
    """

    found: Count
    gold: Count
    points: tuple[Point, ...]

    def point_for(self, precision: float) -> Point | None:
        """The point of the lowest score at which the precision is at least `precision`, None where there is none."""
        return next((point for point in self.points if point.precision >= precision), None)


@dataclass(frozen=True)
class Bin:
    """The findings whose scores lie in one bin: how many, their mean score, and the share that is right."""

    found: Count
    score: Share
    right: Share


@dataclass(frozen=True)
class Calibration:
    """How a model's scores are to be read.

    Attributes:
        temperature: what logits are divided by.
        found: the findings that it was fitted on.
        error_before: their expected calibration error without the temperature.
        error_after: the same with it.
        types: the curve of each type that the data are labelled for, of scores with the temperature.
        data: name, split, SHA-256 and counts of the data.
        bins_before, bins_after: the bins that are not empty, without and with the temperature, by their scores.
    """

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    found: Count
    error_before: Share
    error_after: Share
    types: dict[str, Curve]
    data: dict[str, Any]
    bins_before: tuple[Bin, ...] = ()
    bins_after: tuple[Bin, ...] = ()

    def score_for(self, kind: str, precision: float) -> float:
        """The lowest score of a type that keeps a precision, infinite where none does."""
        point = self.types[kind].point_for(precision) if kind in self.types else None
        return point.score if point else math.inf

    def shortfall(self, kind: str, precision: float) -> str | None:
        """Why no score of a type keeps a precision, as the end of a sentence; None where one does."""
        where = f"on {self.data['name']}, {self.data['split']}"
        if kind not in self.types:
            return f"{where}, there was none to measure its precision on"
        curve = self.types[kind]
        if curve.point_for(precision):
            return None
        if not curve.points:
            return f"{where}, {curve.found:,} were found, and a precision is measured on at least {FEWEST}"
        best = curve.points[-1]
        return (
            f"{where}, of {curve.found:,} found the {best.kept:,} of the highest scores have the best precision, "
            f"{best.precision:.3f}"
        )


def calibrate(findings: Findings, data: Mapping[str, Any]) -> Calibration | None:
    """Fit a model's scores to what it finds in annotated `data`; None where it finds nothing."""
    if not findings.types:
        return None
    right, kinds = findings.right, np.array(findings.types)
    temperature = fit_temperature(findings.scores, right)
    before, after = findings.scores(1.0), findings.scores(temperature)
    return Calibration(
        temperature,
        found=len(kinds),
        error_before=calibration_error(before, right),
        error_after=calibration_error(after, right),
        types={kind: curve(after[kinds == kind], right[kinds == kind], n) for kind, n in sorted(findings.gold.items())},
        data=dict(data),
        bins_before=bins(before, right),
        bins_after=bins(after, right),
    )


def findings(
    task: str,
    documents: Sequence[Document],
    encoded: Any,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    config: PretrainedConfig,
    name: str,
    types: Set[str] | None = None,
) -> Findings:
    """What the model `name` of NER or relations finds; the arguments are those of `registry.score`.

    Of mentions those of `types` count, also where these documents hold none of one; without `types`, those of the
    types that they hold. Of relations all classes count, as in the score.

    Raises UserError for another task, and where several types of the model are one in the documents.
    """
    if task == "ner":
        own = ner_encoding.model_labels(config, name)
        return _mention_findings(documents, encoded, logits, labels, own, types or set(), decoding(config))
    if task == "relation":
        independent = has_independent_outputs(config)
        return relation_findings(documents, np.stack(logits), labels, encoded.scheme, independent=independent)
    raise UserError(
        f"{name} answers questions, whose scores are sums over texts and are not calibrated: name a model of entities "
        "or relations."
    )


def fit_temperature(scores: Callable[[float], NDArray[np.float64]], right: NDArray[np.bool_]) -> float:
    """The temperature at which scores are the most likely probabilities of findings being right.

    Logits are divided by a temperature (Guo et al. 2017, arXiv 1706.04599), which minimises the mean over the findings
    of -t log s - (1 - t) log(1 - s); s is a score, and the target t is (r + 1) / (r + 2) for the r right findings and
    1 / (w + 2) for the w wrong ones (Platt 1999), so that a few findings, all right, do not make a model certain.
    `scores` gives those at a temperature, (findings,); `right` says of each whether it is right.
    """
    positives = int(right.sum())
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (len(right) - positives + 2))

    def loss(place: float) -> tuple[float, float]:
        likely = np.clip(scores(math.exp(place)), _CERTAIN, 1 - _CERTAIN)
        mean = -np.mean(targets * np.log(likely) + (1 - targets) * np.log1p(-likely))
        # Of equal ones the nearest to 1.
        return float(mean), abs(place)

    edge = math.log(_HOTTEST)
    low, high = -edge, edge
    for _ in range(_ROUNDS):
        best = min(np.linspace(low, high, _GRID).tolist(), key=loss)
        step = (high - low) / (_GRID - 1)
        low, high = max(best - step, -edge), min(best + step, edge)
    return math.exp(best)


def bins(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Findings in BINS bins of equal width by their scores (findings,), without the empty bins."""
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    counts, sums, hits = (np.bincount(place, weights, BINS) for weights in (None, scores, right))
    return tuple(
        Bin(int(count), min(float(total / count), 1.0), float(hit / count))
        for count, total, hit in zip(counts, sums, hits, strict=True)
        if count
    )


def calibration_error(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The expected calibration error in [0, 1] (Guo et al. 2017): the mean over findings of how far the mean score of
    their bin is from the share that is right in it."""
    gaps = sum(one.found * abs(one.score - one.right) for one in bins(scores, right))
    return gaps / max(len(scores), 1)


def curve(scores: NDArray[np.float64], right: NDArray[np.bool_], gold: int) -> Curve:
    """The curve of the findings of one type, from their scores and whether each is right; the data hold `gold`.

    A point's score lies halfway between the lowest that it keeps and the next one, so that rounding moves no finding
    across it; where all are kept it is 0.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(right[order])
    points: list[Point] = []
    # From all findings to the most certain ones: a point that is not more precise than one before it is not needed.
    for kept in range(len(ordered), FEWEST - 1, -1):
        following = ordered[kept] if kept < len(ordered) else -math.inf
        precision = float(hits[kept - 1]) / kept
        if ordered[kept - 1] - following <= _SAME or (points and precision <= points[-1].precision):
            continue
        score = max(0.0, float(ordered[kept - 1] + following) / 2)
        points.append(Point(score, precision, min(float(hits[kept - 1]) / max(gold, 1), 1.0), kept))
    return Curve(len(ordered), gold, tuple(points))


def _mention_findings(
    documents: Sequence[Document],
    encoded: ner_encoding.Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    own: Sequence[str],
    types: Set[str],
    how: Decoding,
) -> Findings:
    """The mentions that a model finds, of the types that the documents hold and of `types`.

    `labels` are the model's by id, as the documents spell their types, `own` the same as the model spells them.
    """
    names = {
        spelt: name for (_, spelt), (tag, name) in zip(map(parse, labels), map(parse, own), strict=True) if tag != "O"
    }
    if len(names) < len(tagged_types(own)):
        raise UserError(
            "The data do not tell the model's types apart, so its scores cannot be fitted to them: calibrate it on "
            "data whose mentions have its types."
        )
    wanted = [{comparable(span, document.text) for span in document.spans} for document in documents]
    gold = Counter({names[kind]: 0 for kind in types if kind in names})
    gold.update(names[span.type] for spans in wanted for span in spans if span.type in names)
    found = ner_encoding.mentions(encoded, logits, labels, how)
    known = np.array([names[span.type] in gold for _, span in found.places], dtype=np.bool_)
    kept = [place for place, keep in zip(found.places, known, strict=True) if keep]
    return Findings(
        tuple(names[span.type] for _, span in kept),
        np.array([span in wanted[document] for document, span in kept], dtype=np.bool_),
        gold,
        lambda temperature: found.scores(temperature)[known],
    )


def relation_findings(
    documents: Sequence[Document],
    logits: NDArray[np.float32],
    labels: Sequence[str],
    scheme: Scheme,
    *,
    independent: bool,
) -> Findings:
    """The relations that a model finds, of any class.

    `logits` are (documents, outputs), `labels` the model's classes by id; `independent` as for `relation.decode`.
    """
    wanted = [scheme.map(relation.label_of(document)) for document in documents]
    gold = {label: wanted.count(label) for label in labels if label not in scheme.negatives}
    rows, columns = np.nonzero(relation.reported(logits, labels, scheme, independent=independent))
    found = [labels[column] for column in columns.tolist()]
    right = [wanted[row] == label for row, label in zip(rows.tolist(), found, strict=True)]

    def scores(temperature: float) -> NDArray[np.float64]:
        likely = relation.probabilities(logits / temperature, independent=independent)
        return likely[rows, columns].astype(np.float64)

    return Findings(tuple(found), np.array(right, dtype=np.bool_), gold, scores)
