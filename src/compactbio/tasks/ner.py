"""Named entity recognition: sentences out of documents, mentions out of tags, and their scores over words."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from compactbio.documents import Document, Span
from compactbio.documents.names import clean, key, mention_types, spellings, types, unified
from compactbio.documents.tags import Chunk, chunks, iob2, parse, strict_chunks
from compactbio.documents.words import sentences as sentence_bounds
from compactbio.documents.words import words
from compactbio.errors import UserError
from compactbio.tasks.alignment import aligned, comparable, outside, same_words
from compactbio.tasks.outcome import Mistake, Outcome, counted, rates

PROTOCOLS = ("word", "published")
_CONTEXT = 80  # characters of text shown on either side of a mistake
# The tags of the words of each sentence. A model's mentions are one or more such layers, which may overlap.
Tags = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document: `document` is its index, `words` the (start, end) of its words in the text."""

    document: int
    words: tuple[tuple[int, int], ...]


def split(documents: Sequence[Document], joined: frozenset[str] = frozenset()) -> list[Sentence]:
    """The sentences of documents, in order; a tokenised document is one sentence. `joined` as for `words`."""
    found = []
    for index, document in enumerate(documents):
        bounds = words(document, joined)
        if document.tokenised:
            found.append(Sentence(index, tuple(bounds)))
            continue
        starts = [start for start, _ in bounds]
        for begin, end in sentence_bounds(document.text, document.passages):
            inside = bounds[bisect_left(starts, begin) : bisect_left(starts, end)]
            if inside:
                found.append(Sentence(index, tuple(inside)))
    return found


def tags(sentence: Sentence, spans: Sequence[Span]) -> list[str]:
    """The IOB2 tags of a sentence's words under a document's mentions.

    A mention covers every word that it touches; of overlapping ones the first, then the longest, is kept; one that
    continues in the next sentence is two.
    """
    starts = [start for start, _ in sentence.words]
    ends = [end for _, end in sentence.words]
    found = []
    for span in spans:
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first < last:
            found.append(Chunk(first, last, span.type))
    return iob2(found, len(sentence.words))


def spans(sentence: Sentence, predicted: Sequence[str]) -> list[Span]:
    """The mentions that a sentence's tags stand for, by conlleval's rules, as offsets into its document.

    Raises ValueError where there is not one tag per word.
    """
    if len(predicted) != len(sentence.words):
        raise ValueError(f"A sentence of {len(sentence.words)} words has {len(predicted)} tags; give one per word.")
    return [
        Span(sentence.words[start][0], sentence.words[end - 1][1], kind) for start, end, kind in chunks(list(predicted))
    ]


def document_spans(
    documents: Sequence[Document], sentences: Sequence[Sentence], predicted: Sequence[Tags]
) -> list[list[Span]]:
    """The mentions of each document that the tags of its sentences stand for, by layer."""
    found: list[list[Span]] = [[] for _ in documents]
    for layer in predicted:
        for sentence, sentence_tags in zip(sentences, layer, strict=True):
            found[sentence.document] += spans(sentence, sentence_tags)
    return found


def with_type(documents: Sequence[Document], kind: str) -> list[Document]:
    """The documents with mentions of one type, "" for none."""
    return [replace(d, spans=tuple(replace(span, type=kind) for span in d.spans)) for d in documents]


def labels(documents: Sequence[Document]) -> list[str]:
    """The labels of a model for documents: sorted, `O` among them, both prefixes of each type."""
    kinds = mention_types(documents)
    return sorted(["O", *(f"{prefix}-{kind}" if kind else prefix for prefix in "BI" for kind in kinds)])


def score(
    gold: Tags,
    predicted: Tags,
    protocol: str = "word",
    piece_counts: Sequence[Sequence[int]] | None = None,
) -> dict[str, float]:
    """Precision, recall and F1 of mentions, `strict_f1` and the `accuracy` over words; all in [0, 1].

    A mention counts where both ends and the type agree, by conlleval's rules; `strict_f1` takes only mentions that
    begin with `B`. Protocol "published" counts as Rohanian et al.'s script: every word piece is a unit that has its
    word's tag, `B` repeated.

    Args:
        gold: the tags of each sentence (see `documents.tags`): IOB2 and the like, typed or bare.
        predicted: the tags of the same sentences.
        protocol: "word" or "published".
        piece_counts: for "published" the number of pieces of each word, None where the tags are the pieces' already.

    Raises UserError where the two sides differ in length.

    Examples:
        >>> score([["B-Drug", "O"]], [["B-Drug", "O"]])["f1"]
        1.0
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"{protocol!r} is not a protocol of NER: take {' or '.join(PROTOCOLS)}.", setting="protocol")
    if protocol == "published" and piece_counts is not None:
        gold, predicted = _repeated(gold, piece_counts), _repeated(predicted, piece_counts)
    same_words(gold, predicted)
    return _score([gold], [predicted])


def _score(gold: Sequence[Tags], predicted: Sequence[Tags]) -> dict[str, float]:
    """`score` of layers of tags: a mention is found where a layer has it, and a word is right where both sides have the
    same tags but `O`."""
    loose, strict = (_chunk_counts(gold, predicted, find).sum(0).tolist() for find in (chunks, strict_chunks))
    sides = (zip(*map(chain.from_iterable, layers), strict=True) for layers in (gold, predicted))
    right = sum(_mention_tags(wanted) == _mention_tags(found) for wanted, found in zip(*sides, strict=True))
    total = sum(map(len, gold[0]))
    return {**rates(*loose), "strict_f1": rates(*strict)["f1"], "accuracy": right / max(total, 1)}


def _mention_tags(tags: Iterable[str]) -> set[tuple[str, str]]:
    """The tags but `O` of a word, parsed."""
    return {parse(tag) for tag in tags} - {("O", "")}


def outcome(
    documents: Sequence[Document],
    sentences: Sequence[Sentence],
    predicted: Sequence[Tags],
    protocol: str = "word",
    piece_counts: Sequence[Sequence[int]] | None = None,
) -> Outcome:
    """The outcome of layers of tags that are predicted for the sentences of documents; `protocol` and `piece_counts` as
    for `score`.

    By words, character offsets are compared, so that mentions of raw text that do not end with words still count as
    missed; a unit is a document of raw text, or a sentence of a token file. Where the predictions have several layers,
    the mentions of the documents have one for each type.
    """
    gold: Sequence[Tags] = [_gold_tags(documents, sentences)]
    if len(predicted) > 1:
        kinds = sorted(mention_types(documents)) or [""]
        gold = [_gold_tags(_of_type(documents, kind), sentences) for kind in kinds]
    if protocol == "published":
        if piece_counts is not None:
            gold, predicted = ([_repeated(layer, piece_counts) for layer in side] for side in (gold, predicted))
        scores, units = _score(gold, predicted), _chunk_counts(gold, predicted, chunks)
        note = "Scored over word pieces as the published script did: not comparable with word-level scores."
        return Outcome("f1", scores, units, "sentence", notes=(note,))
    scores = _score(gold, predicted)
    result = outcome_of_spans(documents, list(map(set, document_spans(documents, sentences, predicted))))
    over_words = {name: scores[name] for name in ("strict_f1", "accuracy") if result.unit == "sentence"}
    lost = _beyond_tags(documents, sentences, gold)
    notes = counted({f"gold mentions {_BEYOND_TAGS}; they cannot be found, and count as missed": lost})
    return replace(result, scores={**result.scores, **over_words}, notes=(*result.notes, *notes))


def unlearnable(documents: Sequence[Document], sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """A sentence on the mentions of training documents that their sentences' tags do not stand for, where there are."""
    lost = _beyond_tags(documents, sentences, [_gold_tags(documents, sentences)])
    return counted({f"mentions to train on {_BEYOND_TAGS}; they are learnt in part or not at all": lost})


_BEYOND_TAGS = "overlap others, are in several parts, cross the end of a sentence or do not end with words"


def _gold_tags(documents: Sequence[Document], sentences: Sequence[Sentence]) -> Tags:
    return [tags(sentence, documents[sentence.document].spans) for sentence in sentences]


def _of_type(documents: Sequence[Document], kind: str) -> list[Document]:
    """The documents with their mentions of one type alone."""
    return [replace(d, spans=tuple(span for span in d.spans if span.type == kind), relations=()) for d in documents]


def _beyond_tags(documents: Sequence[Document], sentences: Sequence[Sentence], layers: Sequence[Tags]) -> int:
    """How many mentions the tags of their sentences do not stand for."""
    reachable = document_spans(documents, sentences, layers)
    return sum(
        bool(span.fragments) or (span.start, span.end) not in {(s.start, s.end) for s in within}
        for document, within in zip(documents, reachable, strict=True)
        for span in (comparable(span, document.text) for span in document.spans)
    )


def outcome_of_spans(documents: Sequence[Document], found: Sequence[set[Span]]) -> Outcome:
    """The outcome of the mentions found in each document, each counted once: right where both ends and the type are.

    Of a mention in several parts the parts must be right too.
    """
    wanted = [_comparable_spans(document) for document in documents]
    units = _counts(list(zip(wanted, found, strict=True)))
    return Outcome(
        metric="f1",
        scores=rates(*units.sum(0).tolist()),
        units=units,
        unit="sentence" if all(document.tokenised for document in documents) else "document",
        notes=() if any(wanted) else ("The data have no mention, so F1 is 0 whatever is found.",),
        per_type=_per_type(wanted, found),
        mistakes=tuple(
            mistake
            for document, a, b in zip(documents, wanted, found, strict=True)
            for mistake in _mistakes(document, a, b)
        ),
    )


def outcome_of_documents(
    documents: Sequence[Document], predicted: Sequence[Document], misplaced: Mapping[str, Sequence[str]] | None = None
) -> Outcome:
    """The outcome of another system's documents, matched with those of the gold by `alignment.aligned`.

    Types are compared whatever their case and blanks (see `names.key`); where one side names a single type and the
    other none, that type is meant. `misplaced` gives by document id the types of predicted mentions that are nowhere in
    the text: each is wrong. Raises UserError as `alignment.aligned` does.
    """
    documents = unified(documents)
    spelt = spellings(types(documents))
    documents, placed, notes = aligned(documents, _typed_alike(documents, unified(predicted, spelt)))
    lost = {name: [spelt.get(key(kind), clean(kind)) for kind in kinds] for name, kinds in (misplaced or {}).items()}
    stray = [outside(document, lost.pop(document.id, ())) for document in documents]
    found = [
        {*(comparable(span, document.text) for span in given), *wrong}
        for document, given, wrong in zip(documents, placed, stray, strict=True)
    ]
    strays = sum(map(len, stray))
    notes += _notes_on_predicted(documents, found, sum(map(len, placed)) + strays, strays)
    result = outcome_of_spans(documents, found)
    return replace(result, notes=(*result.notes, *notes))


def _typed_alike(documents: Sequence[Document], predicted: Sequence[Document]) -> Sequence[Document]:
    wanted, found = map(mention_types, (documents, predicted))
    if len(wanted) != 1 or len(found) != 1 or "" not in wanted | found:
        return predicted
    return with_type(predicted, *wanted)


def _comparable_spans(document: Document) -> set[Span]:
    return {comparable(span, document.text) for span in document.spans}


def _notes_on_predicted(
    documents: Sequence[Document], found: Sequence[set[Span]], total: int, misplaced: int
) -> tuple[str, ...]:
    known = mention_types(documents)
    foreign = Counter(span.type for spans in found for span in spans if span.type not in known)
    in_parts = sum(bool(span.fragments) for document in documents for span in _comparable_spans(document))
    notes = counted(
        {
            "predicted mentions do not match the text at their offsets and count as wrong": misplaced,
            "predicted mentions are given more than once and count once": total - sum(map(len, found)),
            "gold mentions are in several parts; only the same parts are right": in_parts,
            **{
                f"predicted mentions are of type {kind or '(none)'}, which the data do not have, and count as wrong": n
                for kind, n in sorted(foreign.items())
            },
        }
    )
    return notes if total else ("The predictions hold no mention.", *notes)


def _repeated(side: Tags, piece_counts: Sequence[Sequence[int]]) -> list[list[str]]:
    """The tag of each word as often as the word has pieces."""
    return [
        [tag for tag, count in zip(sentence, counts, strict=True) for _ in range(count)]
        for sentence, counts in zip(side, piece_counts, strict=True)
    ]


def _chunk_counts(
    gold: Sequence[Tags], predicted: Sequence[Tags], find: Callable[[Sequence[str]], list[Chunk]]
) -> NDArray[np.float64]:
    """`_counts` of the mentions that `find` reads from the tags of each sentence in all layers of both sides."""
    wanted, found = (
        [set[Chunk]().union(*map(find, layers)) for layers in zip(*side, strict=True)] for side in (gold, predicted)
    )
    return _counts(list(zip(wanted, found, strict=True)))


def _counts(pairs: Sequence[tuple[set[Chunk] | set[Span], set[Chunk] | set[Span]]]) -> NDArray[np.float64]:
    """(n, 3): true positives, false positives and false negatives of each (wanted, found)."""
    rows = [(len(a & b), len(b - a), len(a - b)) for a, b in pairs]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _per_type(wanted: Sequence[set[Span]], found: Sequence[set[Span]]) -> dict[str, dict[str, float]]:
    kinds = sorted({span.type for side in (wanted, found) for spans in side for span in spans})
    result = {}
    for kind in kinds:
        sides = ([{span for span in spans if span.type == kind} for spans in side] for side in (wanted, found))
        tp, fp, fn = _counts(list(zip(*sides, strict=True))).sum(0).tolist()
        result[kind] = {**rates(tp, fp, fn), "support": tp + fn}
    return result


def _mistakes(document: Document, wanted: set[Span], found: set[Span]) -> Iterator[Mistake]:
    """A document's errors: each gold mention with the prediction that overlaps it most, of equal ones that of its type;
    then the other predictions."""
    free, missed = (sorted(side, key=lambda s: (s.start, s.end, s.type)) for side in (found - wanted, wanted - found))
    for span in missed:
        overlapping = [other for other in free if other.start < span.end and span.start < other.end]
        shared = [(min(o.end, span.end) - max(o.start, span.start), o.type == span.type) for o in overlapping]
        other = overlapping[shared.index(max(shared))] if shared else None
        kind = "missed"
        if other:
            free.remove(other)
            same = (other.start, other.end) == (span.start, span.end)
            kind = "type" if same else "boundary" if other.type == span.type else "boundary and type"
        yield _mistake(kind, document, span, other)
    for span in free:
        yield _mistake("spurious", document, None, span)


def _mistake(kind: str, document: Document, gold: Span | None, predicted: Span | None) -> Mistake:
    ends = [(span.start, span.end) for span in (gold, predicted) if span]
    start, end = max(0, min(ends)[0] - _CONTEXT), max(end for _, end in ends) + _CONTEXT
    context = " ".join(document.text[start:end].split())
    return Mistake(kind, _shown(document, gold), _shown(document, predicted), context)


def _shown(document: Document, span: Span | None) -> str:
    if span is None:
        return ""
    text = " ".join(document.text[span.start : span.end].split())
    return f"{text} [{span.type}]" if span.type else text
