"""Factoid question answering: the ranked answers of a question, from all its snippets, and their scores."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.tasks.outcome import Mistake, Outcome

Answer = str | Sequence[str]
# BioASQ takes at most so many answers a question.
_RANKS = 5
# What a span may carry beside the answer; signs that tell answers apart (CD4+, 3') are not among it.
_OUTER = ' \t\n\r.,;:!?"“”‘’()[]{}'  # noqa: RUF001


def score(gold_answers: Sequence[Sequence[Answer]], predicted_answers: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """Strict accuracy, lenient accuracy and mean reciprocal rank of factoid questions, in [0, 1].

    A question's gold are its answers, each a list of synonyms or one string; its prediction is a ranked list of
    strings, or of lists whose first string counts, of which the first five count; an empty list is wrong. A
    prediction is right where it equals any synonym of any answer but for case; blanks and punctuation count. Source:
    BioASQ's EvaluatorTask1b (-phaseB -e 5). Raises UserError where the two sides differ in length.
    """
    if len(gold_answers) != len(predicted_answers):
        raise UserError(
            f"The gold has {len(gold_answers)} questions, the predictions {len(predicted_answers)}; "
            "a question without a prediction must be given as an empty list."
        )
    units = [_unit(_rank(gold, own)) for gold, own in zip(gold_answers, predicted_answers, strict=True)]
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
        (-sum(probability for _, probability in same), key, max(same, key=lambda one: one[1])[0])
        for key, same in joined.items()
        if any(map(str.isalnum, key))
    )
    return [(text, -negative) for negative, _, text in ranked[:_RANKS]]


def identity(question: Question) -> str:
    """What the snippets of one question share: its id, or its text where it has none."""
    return question.id or question.text


def outcome(
    documents: Sequence[Document],
    predictions: Mapping[str, Sequence[tuple[str, float]]],
    golden: Mapping[str, Question] | None = None,
) -> Outcome:
    """The outcome of ranked answers (text, probability), given by the questions' `identity`.

    The gold are the factoid questions of `golden`, by the same key, or else those of the documents with the answers
    from all their snippets. A unit is a question, its sums (strict, lenient, reciprocal rank, 1).
    Raises UserError where `golden` and the documents share no question.
    """
    found = questions(documents)
    if golden is not None and found.keys().isdisjoint(golden):
        raise UserError("No question of the gold file stands in the data: give the gold file of the same test batch.")
    gold = dict(golden) if golden is not None else found
    scored = {key: one for key, one in gold.items() if one.kind == "factoid" and one.answers}
    texts = {key: [text for text, _ in predictions.get(key, ())] for key in scored}
    ranks = {key: _rank(one.answers, texts[key]) for key, one in scored.items()}
    return Outcome(
        metric="mrr",
        scores=score([one.answers for one in scored.values()], list(texts.values())),
        units=np.array([_unit(rank) for rank in ranks.values()], dtype=np.float64).reshape(-1, 4),
        statistic="mrr",
        unit="question",
        per_type={},
        mistakes=tuple(_mistake(scored[key], texts[key], rank) for key, rank in ranks.items() if rank != 1),
        notes=_notes(found, gold, scored),
    )


def _rank(gold: Sequence[Answer], predicted: Sequence[Answer]) -> int:
    """The place, from 1, of the first right answer; 0 where none of the first five is right."""
    accepted = {text.lower() for answer in gold for text in ([answer] if isinstance(answer, str) else answer)}
    firsts = [answer if isinstance(answer, str) else next(iter(answer), None) for answer in predicted[:_RANKS]]
    right = (place for place, text in enumerate(firsts, 1) if text and text.strip() and text.lower() in accepted)
    return next(right, 0)


def _unit(rank: int) -> tuple[float, float, float, float]:
    return float(rank == 1), float(rank > 0), 1 / rank if rank else 0.0, 1.0


def _key(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_OUTER)


def questions(documents: Sequence[Document]) -> dict[str, Question]:
    """The questions of documents by their identity, each with the answers from all its snippets.

    Raises UserError for one id of two questions, whose answers would be taken for one another's.
    """
    found: dict[str, Question] = {}
    for question in (question for document in documents for question in document.questions):
        known = found.get(identity(question))
        if known and _key(known.text) != _key(question.text):
            raise UserError(f"Two different questions have the id {question.id!r}: give each its own.")
        answers = (*known.answers, *question.answers) if known else question.answers
        found[identity(question)] = Question(question.text, answers, question.id, kind=question.kind)
    return found


def _mistake(question: Question, predicted: Sequence[str], rank: int) -> Mistake:
    kind = f"ranked 2-{_RANKS}" if rank else "wrong"
    return Mistake(kind, question.answers[0][0], predicted[0] if predicted else "", question.text)


def _notes(
    found: Mapping[str, Question], gold: Mapping[str, Question], scored: Mapping[str, Question]
) -> tuple[str, ...]:
    other = sum(question.kind != "factoid" for question in gold.values())
    without = len(gold) - other - len(scored)
    counted = {
        "questions are not factoid and are left out": other,
        "questions have no gold answer and are left out": without,
        "questions of the data are not in the gold file and are left out": len(found.keys() - gold.keys()),
        "questions of the gold file have no snippet in the data and count as wrong": len(scored.keys() - found.keys()),
    }
    return tuple(f"{count} {what}." for what, count in counted.items() if count)
