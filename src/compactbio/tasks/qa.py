"""Factoid question answering: rows, ranked answers of a question from all its snippets, scores."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.modeling.packing import NO_LABEL, Row, softmax
from compactbio.modeling.tokenizers import Template, WordPieces, template, word_pieces
from compactbio.tasks.outcome import Mistake, Outcome, counted

Answer = str | Sequence[str]
# Labels of pieces: an answer's first, its last, and the one that is both.
START, END, BOTH = 1, 2, 3
# BioASQ's limit of answers per question.
_RANKS = 5
# What a span may hold beside the answer; characters that tell answers apart (CD4+, 3') are not among it.
_OUTER = ' \t\n\r.,;:!?"“”‘’()[]{}'  # noqa: RUF001


def score(gold_answers: Sequence[Sequence[Answer]], predicted_answers: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """Strict accuracy, lenient accuracy and mean reciprocal rank of factoid questions, in [0, 1].

    A prediction is right where it equals any synonym of any answer except for case; blanks and punctuation count.
    Source: BioASQ's EvaluatorTask1b (-phaseB -e 5).

    Args:
        gold_answers: of each question its answers, each a list of synonyms or one string.
        predicted_answers: of each question a ranked list of strings, or of lists whose first string counts; the first
            five count, an empty list is wrong.

    Raises UserError where the two sides differ in length.

    Examples:
        >>> score([[["TP53", "p53"]]], [["BRCA1", "P53"]])["mrr"]
        0.5
    """
    if len(gold_answers) != len(predicted_answers):
        raise UserError(
            f"The gold has {len(gold_answers)} questions, the predictions {len(predicted_answers)}; "
            "a question without a prediction must be given as an empty list."
        )
    units = [_unit(_rank(gold, given)) for gold, given in zip(gold_answers, predicted_answers, strict=True)]
    strict, lenient, reciprocal, count = np.array(units, dtype=np.float64).reshape(-1, 4).sum(0).tolist()
    total = max(count, 1.0)
    return {"strict_accuracy": strict / total, "lenient_accuracy": lenient / total, "mrr": reciprocal / total}


def merge(candidates: Sequence[Sequence[tuple[str, float]]]) -> list[tuple[str, float]]:
    """One ranked list of at most five answers from the candidates (text, probability) of a question's snippets.

    Texts that differ in case, blanks, outer brackets and punctuation alone are one answer: it has the sum of their
    probabilities and the wording of the most probable, the first of equals. Texts without a letter or digit are
    left out. Equal sums are ordered by text.
    """
    joined: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
    for snippet in candidates:
        for text, probability in snippet:
            joined[_key(text)].append((text, probability))
    ranked = sorted(
        (-sum(probability for _, probability in same), key, max(same, key=lambda candidate: candidate[1])[0])
        for key, same in joined.items()
        if any(map(str.isalnum, key))
    )
    return [(text, -negative) for negative, _, text in ranked[:_RANKS]]


def question_key(question: Question) -> str:
    """What the snippets of one question share: its id, or its text where it has none."""
    return question.id or question.text


def outcome(
    documents: Sequence[Document],
    predictions: Mapping[str, Sequence[tuple[str, float]]],
    golden: Mapping[str, Question] | None = None,
) -> Outcome:
    """The outcome of ranked answers (text, probability), by `question_key`; a unit is a question, its sums (strict,
    lenient, reciprocal rank, 1).

    `golden` are the questions with their answers by the same key, by default those of the documents, with the answers
    from all their snippets. Raises UserError where it shares no question with the documents.
    """
    found = questions(documents)
    gold = found if golden is None else golden
    scored = answered(found, golden)
    texts = {key: [text for text, _ in predictions.get(key, ())] for key in scored}
    ranks = {key: _rank(question.answers, texts[key]) for key, question in scored.items()}
    return Outcome(
        metric="mrr",
        scores=score([question.answers for question in scored.values()], list(texts.values())),
        units=np.array([_unit(rank) for rank in ranks.values()], dtype=np.float64).reshape(-1, 4),
        unit="question",
        mistakes=tuple(_mistake(scored[key], texts[key], rank) for key, rank in ranks.items() if rank != 1),
        notes=_notes(found, gold, scored),
    )


def answered(found: Mapping[str, Question], golden: Mapping[str, Question] | None = None) -> dict[str, Question]:
    """The questions that are scored, the factoid ones with an answer: of `golden`, or of the data's own `found`.

    Raises UserError where `golden` shares no question with the data.
    """
    if golden is not None and found.keys().isdisjoint(golden):
        raise UserError("No question of the gold file is in the data: give the gold file of the same test batch.")
    gold = found if golden is None else golden
    return {key: question for key, question in gold.items() if question.kind == "factoid" and question.answers}


def _rank(gold: Sequence[Answer], predicted: Sequence[Answer]) -> int:
    """The rank, from 1, of the first right answer; 0 where none of the first five is right."""
    accepted = {text.lower() for answer in gold for text in ([answer] if isinstance(answer, str) else answer)}
    firsts = [answer if isinstance(answer, str) else next(iter(answer), None) for answer in predicted[:_RANKS]]
    right = (place for place, text in enumerate(firsts, 1) if text and text.strip() and text.lower() in accepted)
    return next(right, 0)


def _unit(rank: int) -> tuple[float, float, float, float]:
    return float(rank == 1), float(rank > 0), 1 / rank if rank else 0.0, 1.0


def _key(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_OUTER)


def questions(documents: Sequence[Document]) -> dict[str, Question]:
    """The questions of documents by `question_key`, each with the answers from all its snippets.

    Raises UserError for one id of two questions, whose answers would be mixed.
    """
    found: dict[str, Question] = {}
    for question in (question for document in documents for question in document.questions):
        known = found.get(question_key(question))
        if known and _key(known.text) != _key(question.text):
            raise UserError(f"Two different questions have the id {question.id!r}: give each its own.")
        answers = (*known.answers, *question.answers) if known else question.answers
        found[question_key(question)] = Question(question.text, answers, question.id, kind=question.kind)
    return found


def _mistake(question: Question, predicted: Sequence[str], rank: int) -> Mistake:
    kind = f"ranked 2-{_RANKS}" if rank else "wrong"
    return Mistake(kind, question.answers[0][0], predicted[0] if predicted else "", question.text)


def _notes(
    found: Mapping[str, Question], gold: Mapping[str, Question], scored: Mapping[str, Question]
) -> tuple[str, ...]:
    other = sum(question.kind != "factoid" for question in gold.values())
    without = len(gold) - other - len(scored)
    counts = {
        "questions are not factoid and are left out": other,
        "questions have no gold answer and are left out": without,
        "questions of the data are not in the gold file and are left out": len(found.keys() - gold.keys()),
        "questions of the gold file have no snippet in the data and count as wrong": len(scored.keys() - found.keys()),
    }
    return counted(counts)


@dataclass(frozen=True)
class Window:
    """A question with a run of its snippet as one row.

    `document` is the snippet's index, `question` the question's `question_key`. `offsets` (length, 2) are the
    characters of the pieces in the document's text, -1 where a piece is not from it.
    """

    document: int
    question: str
    offsets: NDArray[np.int64]
    row: Row


@dataclass(frozen=True)
class Encoded:
    """Documents as rows.

    `misplaced` counts the answers that are not where their start says, `first_misplaced` is the id of the first
    document with one, `shortened` counts the pairs of question and snippet whose question lost pieces.
    """

    windows: tuple[Window, ...]
    misplaced: int
    first_misplaced: str
    shortened: int

    @property
    def rows(self) -> list[Row]:
        return [window.row for window in self.windows]

    @property
    def notes(self) -> tuple[str, ...]:
        first = f", the first of them in {self.first_misplaced}" if self.misplaced else ""
        return counted(
            {
                "questions were cut at their beginning": self.shortened,
                f"answers are not where their offset says{first}": self.misplaced,
            }
        )


def factoid_pairs(documents: Sequence[Document]) -> list[tuple[int, Question]]:
    """The factoid questions of all documents, each with its document's index."""
    return [
        (i, asked) for i, document in enumerate(documents) for asked in document.questions if asked.kind == "factoid"
    ]


def encode(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, max_length: int = 384, stride: int = 128
) -> Encoded:
    """The rows of factoid questions and parts of their snippets, as the tokenizer joins two texts.

    That is [CLS] question [SEP] part [SEP] with token types 0 and 1 for a BERT, <s> question </s></s> part </s> without
    types for a RoBERTa. A row has at most `max_length` tokens (8 or more), a question at most half of it: of a longer
    one the end is kept, where long questions ask. The parts cover the snippet and share `stride` pieces, or half a part
    where that is less. Labels are START, END or BOTH at the first answer that is where its start says, or else at the
    first whose wording occurs exactly once; BOTH at [CLS] (the first token, where a template has none) in a row without
    the whole answer; -100 elsewhere. A question without answers, or with one whose place is ambiguous, has no labels.
    """
    pairs = factoid_pairs(documents)
    contexts = word_pieces([document.text for document in documents], tokenizer)
    asked = word_pieces([question.text for _, question in pairs], tokenizer)
    special = template(tokenizer, 2)
    room = max_length - special.size
    half = min(max_length // 2, room - 1)
    windows: list[Window] = []
    for (index, question), words in zip(pairs, asked, strict=True):
        context = contexts[index]
        place = _answer(documents[index].text, question)
        answer = context.touching(*place) if place else None
        for part in _snippet_parts(len(context.ids), room - min(len(words.ids), half), stride):
            row, offsets = _row(words.ids[-half:], context, part, answer, special)
            windows.append(Window(index, question_key(question), offsets, row))
    misplaced = [
        documents[index].id
        for index, question in pairs
        for answer, start in zip(question.answers, question.starts, strict=False)
        if not _is_at(answer[0], start, documents[index].text)
    ]
    return Encoded(
        tuple(windows),
        misplaced=len(misplaced),
        first_misplaced=misplaced[0] if misplaced else "",
        shortened=sum(len(words.ids) > half for words in asked),
    )


def decode(
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    documents: Sequence[Document],
    n_best: int = 20,
    longest: int = 30,
) -> dict[str, list[tuple[str, float]]]:
    """The answers (text, summed probability) of each question, merged over its snippets by `merge`.

    `logits` are those of each row, (length, 2), start and end. A snippet's candidates are its `n_best` spans of at most
    `longest` pieces by start + end logit; their probability is the softmax over them. The logits of [CLS] do not
    count: a factoid question has an answer.
    """
    snippets: defaultdict[tuple[str, int], list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = defaultdict(list)
    for window, values in zip(encoded.windows, logits, strict=True):
        snippets[window.question, window.document].append(_spans(window, values, n_best, longest))
    found: defaultdict[str, list[list[tuple[str, float]]]] = defaultdict(list)
    for (question, index), spans in snippets.items():
        found[question].append(_candidates(spans, documents[index].text, n_best))
    return {question: merge(candidates) for question, candidates in found.items()}


def _is_at(wording: str, start: int, text: str) -> bool:
    # Python counts a negative start from the end of the text.
    return start >= 0 and text.startswith(wording, start)


def _answer(text: str, question: Question) -> tuple[int, int] | None:
    """The characters of the answer to train on: (0, 0) for a snippet without it, None where its place is ambiguous."""
    for answer, start in zip(question.answers, question.starts, strict=False):
        if _is_at(answer[0], start, text):
            return start, start + len(answer[0])
    occurring = [answer[0] for answer in question.answers if answer[0] in text]
    for wording in occurring:
        if text.count(wording) == 1:
            return text.index(wording), text.index(wording) + len(wording)
    return None if occurring or not question.answers else (0, 0)


def _snippet_parts(length: int, room: int, stride: int) -> Iterator[range]:
    """Runs of at most `room` pieces that cover a context of `length`; one empty run for an empty context."""
    overlap = min(stride, room // 2)
    for start in range(0, max(length - overlap, 1), room - overlap):
        yield range(start, min(start + room, length))


def _row(
    asked: NDArray[np.int64], context: WordPieces, part: range, answer: range | None, special: Template
) -> tuple[Row, NDArray[np.int64]]:
    """A row and the offsets of its pieces."""
    texts = asked, context.ids[part.start : part.stop]
    ids = special.ids(*texts)
    head = len(special.gaps[0]) + len(asked) + len(special.gaps[1])
    offsets = np.full((len(ids), 2), -1)
    offsets[head : head + len(part)] = context.offsets[part.start : part.stop]
    labels = np.full(len(ids), NO_LABEL)
    if answer is not None:
        first, last, label = _answer_labels(part, answer, head, special.cls)
        labels[last], labels[first] = END, label
    return Row(ids, labels, special.segments(*texts)), offsets


def _answer_labels(part: range, answer: range, head: int, cls: int) -> tuple[int, int, int]:
    """The tokens of an answer's first and last piece, both `cls` where the row lacks some, and the first's label."""
    if not answer or answer.start < part.start or answer.stop > part.stop:
        return cls, cls, BOTH
    first, last = head + answer.start - part.start, head + answer.stop - 1 - part.start
    return first, last, START if last > first else BOTH


def _spans(
    window: Window, logits: NDArray[np.float32], n_best: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best spans of a window: characters (n, 2) and start + end logits (n,)."""
    inside = window.offsets[:, 0] >= 0
    offsets, values = window.offsets[inside], logits[inside].astype(np.float64)
    if not len(offsets):
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    ends = np.concatenate([values[:, 1], np.full(longest - 1, -np.inf)])
    # (pieces, longest): at [i, j] the span from piece i to piece i + j.
    totals = values[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    best = np.argsort(-totals, axis=None, kind="stable")[:n_best]
    best = best[np.isfinite(totals.flat[best])]
    first, width = np.divmod(best, longest)
    return np.stack([offsets[first, 0], offsets[first + width, 1]], axis=1), totals.flat[best]


def _candidates(
    spans: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], text: str, n_best: int
) -> list[tuple[str, float]]:
    """A snippet's candidates from its windows; a span that two of them hold counts once, by its better one."""
    places, totals = np.concatenate([place for place, _ in spans]), np.concatenate([total for _, total in spans])
    if not len(places):
        return []
    order = np.lexsort((places[:, 1], places[:, 0], -totals))
    _, firsts = np.unique(places[order], axis=0, return_index=True)
    kept = order[np.sort(firsts)][:n_best]
    texts = (text[start:end].strip() for start, end in places[kept].tolist())
    return list(zip(texts, softmax(totals[kept]).tolist(), strict=True))
