"""Named entity recognition: sentences out of documents, mentions out of labels, and their scores over words."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from compactbio.documents import Document, Span
from compactbio.documents.names import clean, key, spellings, types, unified
from compactbio.documents.tags import Chunk, chunks, iob2, parse, strict_chunks
from compactbio.documents.words import sentences, words
from compactbio.errors import UserError
from compactbio.tasks.alignment import aligned, beyond, mention, same_words
from compactbio.tasks.outcome import Mistake, Outcome

PROTOCOLS = ("word", "published")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document: `document` is its place, `words` the (start, end) of its words in the text."""

    document: int
    words: tuple[tuple[int, int], ...]


def split(documents: Sequence[Document], joined: frozenset[str] = frozenset()) -> list[Sentence]:
    """The sentences of documents, in order; a tokenised document is one sentence. `joined` as of `words`."""
    found = []
    for place, document in enumerate(documents):
        own = words(document, joined)
        if document.tokenised:
            found.append(Sentence(place, tuple(own)))
            continue
        starts = [start for start, _ in own]
        for begin, end in sentences(document.text):
            inside = own[bisect_left(starts, begin) : bisect_left(starts, end)]
            if inside:
                found.append(Sentence(place, tuple(inside)))
    return found


def tags(sentence: Sentence, spans: Sequence[Span]) -> list[str]:
    """The IOB2 tags of a sentence's words under a document's mentions.

    A mention covers every word that it touches; of overlapping ones the first, then the longest, is kept; one that
    goes on over the sentence's end is cut there.
    """
    starts = [start for start, _ in sentence.words]
    ends = [end for _, end in sentence.words]
    mentions = []
    for span in spans:
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first < last:
            mentions.append(Chunk(first, last, span.type))
    return iob2(mentions, len(sentence.words))


def spans(sentence: Sentence, predicted: Sequence[str]) -> list[Span]:
    """The mentions that a sentence's tags stand for, by conlleval's rules, as offsets into its document."""
    return [
        Span(sentence.words[start][0], sentence.words[end - 1][1], kind) for start, end, kind in chunks(list(predicted))
    ]


def labels(documents: Sequence[Document]) -> list[str]:
    """The labels of a model for documents: sorted, `O` among them, both prefixes of each type."""
    types = {span.type for document in documents for span in document.spans}
    suffixes = [f"-{kind}" if kind else "" for kind in types]
    return sorted(["O", *(prefix + suffix for prefix in "BI" for suffix in suffixes)])


def score(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    protocol: str = "word",
    pieces: Sequence[Sequence[int]] | None = None,
) -> dict[str, float]:
    """Precision, recall and F1 of mentions in [0, 1], over sentences of tags (see `documents.tags`).

    A mention counts where both ends and the type agree, by conlleval's rules; `strict_f1` takes only mentions that
    begin with `B`. `accuracy` is over words. Protocol "published" counts as Rohanian et al.'s script: every word piece
    is a unit that carries its word's tag, `B` repeated; `pieces` are then the pieces of each word, None where the tags
    are the pieces' already. Raises UserError where the two sides differ in length.
    """
    same_words(gold, predicted)
    if protocol == "published" and pieces is not None:
        gold, predicted = ([_repeated(t, n) for t, n in zip(side, pieces, strict=True)] for side in (gold, predicted))
    elif protocol not in PROTOCOLS:
        raise UserError(f"{protocol!r} is no protocol of NER: take {' or '.join(PROTOCOLS)}.")
    loose, strict, right, total = Counter[str](), Counter[str](), 0, 0
    for own, other in zip(gold, predicted, strict=True):
        loose += _counts(set(chunks(own)), set(chunks(other)))
        strict += _counts(set(strict_chunks(own)), set(strict_chunks(other)))
        right += sum(parse(a) == parse(b) for a, b in zip(own, other, strict=True))
        total += len(own)
    return {**_rates(loose), "strict_f1": _rates(strict)["f1"], "accuracy": right / max(total, 1)}


def outcome(
    documents: Sequence[Document],
    parts: Sequence[Sentence],
    predicted: Sequence[Sequence[str]],
    protocol: str = "word",
    pieces: Sequence[Sequence[int]] | None = None,
) -> Outcome:
    """The outcome of tags predicted for the sentences of documents; `pieces` as in `score`.

    By words, what is compared are character offsets, so that mentions of raw text that no words fit still count as
    missed; a unit is a document of raw text, or a sentence of a token file.
    """
    gold_tags = [tags(part, documents[part.document].spans) for part in parts]
    scores = score(gold_tags, predicted, protocol, pieces)
    if protocol == "published":
        return _published(gold_tags, predicted, pieces, scores)
    found: list[set[Span]] = [set() for _ in documents]
    for part, own in zip(parts, predicted, strict=True):
        found[part.document].update(spans(part, own))
    result = outcome_of_spans(documents, found)
    over_words = {name: scores[name] for name in ("strict_f1", "accuracy") if result.unit == "sentence"}
    return replace(result, scores={**result.scores, **over_words}, notes=_notes(documents, parts, gold_tags))


def outcome_of_spans(documents: Sequence[Document], found: Sequence[set[Span]]) -> Outcome:
    """The outcome of the mentions found in each document, each counted once: right where both ends and the type are.

    Of a mention in several parts the parts must be right too.
    """
    wanted = [_bare(document) for document in documents]
    units = np.array([_row(_counts(a, b)) for a, b in zip(wanted, found, strict=True)], dtype=np.float64)
    sums = dict(zip(("tp", "fp", "fn"), units.sum(0).tolist(), strict=True))
    mistakes = [
        mistake
        for document, a, b in zip(documents, wanted, found, strict=True)
        for mistake in _mistakes(document, a, b)
    ]
    return Outcome(
        metric="f1",
        scores=_rates(Counter(sums)),
        units=units,
        statistic="f1",
        unit="sentence" if all(document.tokenised for document in documents) else "document",
        per_type=_per_type(wanted, found),
        mistakes=tuple(mistakes),
    )


def outcome_of_documents(
    documents: Sequence[Document],
    predicted: Sequence[Document],
    misplaced: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """The outcome of another system's documents, which `alignment.aligned` lays upon those of the gold.

    Types are compared whatever their letters and blanks (see `names.key`); where one side names a single type and the
    other none, that type is meant. `misplaced` are the types of predicted mentions that stand nowhere in the text, by
    document: each is wrong. Raises UserError as `alignment.aligned` does.
    """
    documents = unified(documents)
    spelt = spellings(types(documents))
    predicted = _as_typed_as(documents, unified(predicted, spelt))
    laid = aligned(documents, predicted)
    lost = {name: [spelt.get(key(kind), clean(kind)) for kind in kinds] for name, kinds in (misplaced or {}).items()}
    stray = [beyond(document, lost.pop(document.id, ())) for document in laid.documents]
    found = [
        {*(mention(span, document.text) for span in spans), *own}
        for document, spans, own in zip(laid.documents, laid.predicted, stray, strict=True)
    ]
    given = sum(map(len, laid.predicted)) + sum(map(len, stray))
    result = outcome_of_spans(laid.documents, found)
    notes = (*laid.notes, *_notes_on_predicted(laid.documents, found, given, sum(map(len, stray))))
    return replace(result, notes=notes)


def _as_typed_as(documents: Sequence[Document], predicted: Sequence[Document]) -> Sequence[Document]:
    wanted, found = ({span.type for d in side for span in d.spans} for side in (documents, predicted))
    if len(wanted) != 1 or len(found) != 1 or "" not in wanted | found:
        return predicted
    (kind,) = wanted
    return [replace(d, spans=tuple(replace(span, type=kind) for span in d.spans)) for d in predicted]


def _bare(document: Document) -> set[Span]:
    return {mention(span, document.text) for span in document.spans}


def _notes_on_predicted(
    documents: Sequence[Document], found: Sequence[set[Span]], given: int, misplaced: int
) -> tuple[str, ...]:
    known = {span.type for document in documents for span in document.spans}
    foreign = Counter(span.type for own in found for span in own if span.type not in known)
    counted = {
        "predicted mentions do not stand at their offsets and count as wrong": misplaced,
        "predicted mentions are given more than once and count once": given - sum(map(len, found)),
        "gold mentions stand in several parts; only the same parts are right": sum(
            bool(span.fragments) for document in documents for span in _bare(document)
        ),
        **{
            f"predicted mentions are of type {kind or '(none)'}, which the data do not hold, and count as wrong": count
            for kind, count in sorted(foreign.items())
        },
    }
    notes = tuple(f"{count:,} {what}." for what, count in counted.items() if count)
    return notes if given else ("The predictions hold no mention.", *notes)


def _published(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    pieces: Sequence[Sequence[int]] | None,
    scores: dict[str, float],
) -> Outcome:
    if pieces is not None:
        gold, predicted = ([_repeated(t, n) for t, n in zip(side, pieces, strict=True)] for side in (gold, predicted))
    sets = [(set(chunks(a)), set(chunks(b))) for a, b in zip(gold, predicted, strict=True)]
    return Outcome(
        metric="f1",
        scores=scores,
        units=np.array([_row(_counts(a, b)) for a, b in sets], dtype=np.float64),
        statistic="f1",
        unit="sentence",
        per_type={},
        notes=("Scored over word pieces as the published script did: no figure to put beside word-level ones.",),
    )


def _repeated(own: Sequence[str], pieces: Sequence[int]) -> list[str]:
    return [tag for tag, count in zip(own, pieces, strict=True) for _ in range(count)]


def _counts(wanted: set[Chunk] | set[Span], found: set[Chunk] | set[Span]) -> Counter[str]:
    right = len(wanted & found)
    return Counter(tp=right, fp=len(found) - right, fn=len(wanted) - right)


def _row(counts: Counter[str]) -> list[int]:
    return [counts["tp"], counts["fp"], counts["fn"]]


def _rates(counts: Counter[str]) -> dict[str, float]:
    tp, fp, fn = _row(counts)
    return {
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def _per_type(wanted: Sequence[set[Span]], found: Sequence[set[Span]]) -> dict[str, dict[str, float]]:
    types = sorted({span.type for side in (wanted, found) for part in side for span in part})
    result = {}
    for kind in types:
        counts = Counter[str]()
        for a, b in zip(wanted, found, strict=True):
            counts += _counts({s for s in a if s.type == kind}, {s for s in b if s.type == kind})
        result[kind] = {**_rates(counts), "support": float(counts["tp"] + counts["fn"])}
    return result


def _mistakes(document: Document, wanted: set[Span], found: set[Span]) -> list[Mistake]:
    """A document's errors: each gold mention with the prediction that overlaps it most, then what is left."""
    free = sorted(found - wanted, key=lambda span: (span.start, span.end))
    result = []
    for span in sorted(wanted - found, key=lambda span: (span.start, span.end)):
        overlapping = [other for other in free if other.start < span.end and span.start < other.end]
        other = max(overlapping, key=lambda o: min(o.end, span.end) - max(o.start, span.start), default=None)
        if other is None:
            result.append(_mistake("missed", document, span, None))
            continue
        free.remove(other)
        same = (other.start, other.end) == (span.start, span.end)
        kind = "type" if same else "boundary" if other.type == span.type else "boundary and type"
        result.append(_mistake(kind, document, span, other))
    return result + [_mistake("spurious", document, None, span) for span in free]


def _mistake(kind: str, document: Document, gold: Span | None, predicted: Span | None) -> Mistake:
    ends = [(span.start, span.end) for span in (gold, predicted) if span]
    start, end = max(0, min(ends)[0] - 80), max(end for _, end in ends) + 80
    context = " ".join(document.text[start:end].split())
    return Mistake(kind, _named(document, gold), _named(document, predicted), context)


def _named(document: Document, span: Span | None) -> str:
    if span is None:
        return ""
    text = " ".join(document.text[span.start : span.end].split())
    return f"{text} [{span.type}]" if span.type else text


def _notes(documents: Sequence[Document], parts: Sequence[Sentence], gold: Sequence[Sequence[str]]) -> tuple[str, ...]:
    reachable: list[set[Span]] = [set() for _ in documents]
    for part, own in zip(parts, gold, strict=True):
        reachable[part.document].update(spans(part, own))
    lost = sum(
        bool(span.fragments) or (span.start, span.end) not in {(s.start, s.end) for s in within}
        for document, within in zip(documents, reachable, strict=True)
        for span in map(mention, document.spans, repeat(document.text))
    )
    if not lost:
        return ()
    return (
        f"{lost} gold mentions overlap others, stand in several parts or do not end with words; they cannot be found, "
        "and count as missed.",
    )
