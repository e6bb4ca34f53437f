"""What models with different tokenizers can agree on: the units of a task, what a model says of each, and a student's
rows with a teacher's probabilities.

The unit is the word (NER), the marked pair (relations), and the word of a passage at which an answer starts or ends
(QA). Units come in groups: the words of a sentence, one pair, the words of a passage for one question.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compactbio.documents import Document, Relation
from compactbio.documents.words import words
from compactbio.modeling.packing import Row, SoftLabels, softmax
from compactbio.tasks import ner_encoding, qa, relation

# What a model says of the units of a group, (units, columns): the logarithms of the probabilities of labels or classes;
# of a passage's words those of the odds that the answer starts, and ends, there and not outside the passage. NaN where
# a unit has no piece in the model's vocabulary.
Scores = NDArray[np.floating[Any]]
Logits = Sequence[NDArray[np.float32]]


def without_labels(task: str, documents: Sequence[Document], label: str) -> list[Document]:
    """Documents as a task's `encode` takes them, whatever they are labelled with; each pair has the class `label`."""
    if task != "relation":
        return list(documents)
    return [
        replace(document, relations=(replace((*document.relations, Relation("", "", ""))[0], type=label),))
        for document in documents
    ]


def has_units(task: str, document: Document) -> bool:
    """Whether a document holds a word, a marked pair, or a word and a question to read it for."""
    if task == "relation":
        return bool(relation.marks(*without_labels(task, [document], "")))
    return bool(words(document)) and (task == "ner" or bool(_asked([document])))


def scores(task: str, documents: Sequence[Document], encoded: Any, logits: Logits) -> list[Scores]:
    """What a model says of each group of documents, which the task's `encode` made `encoded` of."""
    if task == "relation":
        return [_logarithm(relation.probabilities(row[None], independent=False)) for row in logits]
    return _word_scores(encoded, logits) if task == "ner" else _passage_scores(documents, encoded, logits)


def soft_rows(
    task: str, documents: Sequence[Document], encoded: Any, teachers: Sequence[Sequence[Scores]], temperature: float
) -> list[Row]:
    """The rows of `encoded`, as the student reads documents, with soft labels.

    A unit's target is the mean over teachers of its probabilities softmax(scores / T), T the temperature; teachers that
    know different types of mentions are combined (see `combined`). Units that a teacher does not read are left out.
    `teachers` are by teacher the scores of each group, with the columns of the student's labels, -inf in those that the
    teacher does not know.
    """
    groups = list(zip(*teachers, strict=True))
    if task == "qa":
        return _passage_rows(documents, encoded, groups, temperature)
    targets = [_softened(np.stack(group), temperature) for group in groups]
    if task == "relation":
        first = np.zeros(1, dtype=np.int64)
        pairs = zip(encoded.rows, targets, strict=True)
        return [replace(row, soft=SoftLabels(first, first, target)) for row, target in pairs]
    return [_with_words(window, targets[window.sentence]) for window in encoded.windows]


def _softened(stacked: Scores, temperature: float) -> NDArray[np.float32]:
    """What teachers say together: (teachers, units, columns) to (units, columns)."""
    probabilities = softmax(stacked.astype(np.float32) / temperature)
    known = ~np.isneginf(stacked).any(1)  # (teachers, columns)
    views = np.unique(known, axis=0)
    means = [probabilities[(known == view).all(1)].mean(0) for view in views]  # (units, columns) each
    return means[0] if len(means) == 1 else combined(np.stack(means), views)


def combined(probabilities: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The distribution of a word's label by taggers that know different types, as if each decided for itself and all
    but one said `O`.

    p(label) is in proportion to p_t(label) * the product of the other taggers' p(O), for the tagger t that knows the
    label, and p(O) to the product of all taggers' p(O). `probabilities` are (taggers, words, labels); `known` (taggers,
    labels) says whether a tagger knows a label; one label, `O`, is known to all.
    """
    nothing = int(known.all(0).argmax())
    none = probabilities[:, :, nothing].astype(np.float64)  # (taggers, words); products of many would underflow
    others = np.stack([np.delete(none, i, axis=0).prod(0) for i in range(len(none))])  # (taggers, words)
    weights = (probabilities * known[:, None] * others[:, :, None]).sum(0)  # (words, labels)
    weights[:, nothing] = none.prod(0)
    result: NDArray[np.float32] = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    return result


def _logarithm(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def _word_scores(encoded: ner_encoding.Encoded, logits: Logits) -> list[Scores]:
    labels = logits[0].shape[-1] if logits else 0
    found: list[Scores] = [
        np.full((len(sentence.words), labels), np.nan, dtype=np.float32) for sentence in encoded.sentences
    ]
    for window, values in zip(encoded.windows, logits, strict=True):
        found[window.sentence][list(window.words)] = _logarithm(softmax(values[window.first_pieces]))
    return found


def _with_words(window: ner_encoding.Window, targets: NDArray[np.float32]) -> Row:
    """A window's row with the targets (words of the sentence, labels) of its words."""
    read = targets[list(window.words)]
    known = ~np.isnan(read).any(-1)
    pieces = window.first_pieces[known]
    return replace(window.row, soft=SoftLabels(pieces, np.arange(len(pieces)), read[known]))


# -- the words of a passage for a question


def _asked(documents: Sequence[Document]) -> dict[tuple[int, str], int]:
    """The places in order of the pairs of a document, by its index, and a question."""
    pairs = [(index, qa.question_key(question)) for index, question in qa.factoid_pairs(documents)]
    return {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}


def _words_of_pieces(window: qa.Window, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index in `bounds` (words, 2) of the word in which each piece of a row begins, -1 outside the passage."""
    starts, ends = window.offsets.T
    found = np.searchsorted(bounds[:, 1], starts, "right")
    inside = (starts >= 0) & (found < len(bounds))
    inside[inside] = bounds[found[inside], 0] < np.maximum(ends, starts + 1)[inside]
    return np.where(inside, found, -1)


def _bounds(document: Document) -> NDArray[np.int64]:
    return np.array(words(document), dtype=np.int64).reshape(-1, 2)


def _passage_scores(documents: Sequence[Document], encoded: qa.Encoded, logits: Logits) -> list[Scores]:
    """Of a word in several windows the scores are those of the one in which it is farthest from a cut."""
    places = _asked(documents)
    found: list[Scores] = [np.empty((0, 2), dtype=np.float32)] * len(places)
    pairs = zip(encoded.windows, logits, strict=True)
    for asked, group in groupby(pairs, key=lambda pair: (pair[0].document, pair[0].question)):
        windows = list(group)
        bounds = _bounds(documents[asked[0]])
        best, margins = np.full((len(bounds), 2), np.nan, dtype=np.float32), np.full(len(bounds), -1.0)
        for number, (window, values) in enumerate(windows):
            at = _words_of_pieces(window, bounds)
            margin = _margins(at, len(bounds), first=number == 0, last=number == len(windows) - 1)
            better = margin > margins
            best[better], margins[better] = _odds(at, values, len(bounds))[better], margin[better]
        found[places[asked]] = best
    return found


def _odds(at: NDArray[np.int64], logits: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """The logarithm of the odds of each word against what is outside the passage: (length, 2) to (words, 2)."""
    sums = np.full((count + 1, 2), -np.inf)
    np.logaddexp.at(sums, np.where(at < 0, count, at), logits.astype(np.float64))
    odds: NDArray[np.float64] = sums[:count] - sums[count]
    return odds


def _margins(at: NDArray[np.int64], count: int, *, first: bool, last: bool) -> NDArray[np.float64]:
    """The pieces between each word of a window and the nearer cut, (words,), -1 for a word that the window lacks; the
    ends of the passage are not cuts."""
    inside = at[at >= 0]
    places = np.arange(len(inside), dtype=np.float64)
    uncut = np.full(len(inside), np.inf)
    margins = np.full(count, np.inf)
    np.minimum.at(margins, inside, np.minimum(uncut if first else places, uncut if last else places[::-1]))
    margins[~np.isin(np.arange(count), inside)] = -1
    return margins


def _passage_rows(
    documents: Sequence[Document], encoded: qa.Encoded, groups: Sequence[tuple[Scores, ...]], temperature: float
) -> list[Row]:
    """Of several windows of a passage each has the distribution over its own words and what is outside the passage."""
    places = _asked(documents)
    bounds = {index: _bounds(documents[index]) for index in {window.document for window in encoded.windows}}
    rows = []
    for window in encoded.windows:
        at = _words_of_pieces(window, bounds[window.document])
        stacked = np.stack(groups[places[window.document, window.question]]).astype(np.float32)
        known = np.logical_not(np.isnan(stacked).any((0, 2)))
        present = np.unique(at[at >= 0])
        kept = present[known[present]]
        units = np.full(len(known) + 1, -1)
        units[kept], units[-1] = np.arange(len(kept)), len(kept)  # at -1: outside the passage
        pieces = np.flatnonzero(units[at] >= 0)
        outside = np.zeros((len(stacked), 1, 2), dtype=np.float32)
        odds = np.concatenate([stacked[:, kept], outside], axis=1)  # (teachers, units, 2)
        target = _softened(odds.transpose(0, 2, 1), temperature).T.copy()
        rows.append(replace(window.row, soft=SoftLabels(pieces, units[at][pieces], target)))
    return rows
