"""Another system's documents laid upon the gold ones: by order or id, through texts that differ in blanks alone."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from compactbio.documents import Document, Span
from compactbio.errors import UserError


@dataclass(frozen=True)
class Aligned:
    """Documents of the gold, the mentions predicted for each, in their offsets, and sentences on what was done."""

    documents: tuple[Document, ...]
    predicted: tuple[tuple[Span, ...], ...]
    notes: tuple[str, ...]


def aligned(documents: Sequence[Document], predicted: Sequence[Document]) -> Aligned:
    """The predictions for documents: sentences of a token file in their order, raw text by its id.

    A predicted document has the words or text of the gold one; in raw text blanks may differ. Several of one id and
    text are joined; one that is missing has no mention. Raises UserError where texts or numbers of sentences differ,
    and where no document of the gold is there.
    """
    if all(document.tokenised for document in (*documents, *predicted)):
        _check_sentences(documents, predicted)
        return Aligned(tuple(documents), tuple(document.spans for document in predicted), ())
    by_id: defaultdict[str, defaultdict[str, list[Document]]] = defaultdict(lambda: defaultdict(list))
    for document in predicted:
        by_id[document.id][_bare(document.text)].append(document)
    wanted = {(document.id, _bare(document.text)) for document in documents}
    golden = {name for name, _ in wanted}
    _check_texts(wanted, {(name, text) for name in golden & by_id.keys() for text in by_id[name]})
    missing = golden - by_id.keys()
    if len(missing) == len(golden):
        raise UserError(
            f"None of the {len(golden):,} documents is in the predictions, the first is {documents[0].id!r}: give "
            "predictions for these documents, under their ids."
        )
    laid = [_laid(document, by_id[document.id][_bare(document.text)]) for document in documents]
    joined = sum(len(same) > 1 for name in golden for same in by_id[name].values())
    shifted = sum(any(one.text != d.text for one in by_id[d.id][_bare(d.text)]) for d in documents)
    counted = {
        "documents of the data are not in the predictions; all their mentions count as missed": len(missing),
        "documents of the predictions are not in the data and are left out": len(
            [document for document in predicted if document.id not in golden]
        ),
        "documents stand in the predictions more than once; their mentions are joined": joined,
        "documents have other blanks in the predictions; offsets are compared through the text without blanks": shifted,
    }
    notes = tuple(f"{count:,} {what}." for what, count in counted.items() if count)
    return Aligned(tuple(one for one, _ in laid), tuple(spans for _, spans in laid), notes)


def mention(span: Span, text: str) -> Span:
    """What is compared of a mention: its ends and type, and its parts where more than blanks lie between them."""
    parts: list[tuple[int, int]] = []
    for start, end in sorted(span.fragments):
        if parts and not text[parts[-1][1] : start].strip():
            parts[-1] = (parts[-1][0], max(parts[-1][1], end))
        else:
            parts.append((start, end))
    return Span(span.start, span.end, span.type, fragments=tuple(parts) if len(parts) > 1 else ())


def beyond(document: Document, types: Iterable[str]) -> list[Span]:
    """Mentions that stand nowhere in a document, one for each of `types`, each of them wrong."""
    return [Span(place, place + 1, kind) for place, kind in enumerate(types, len(document.text))]


def _bare(text: str) -> str:
    return "".join(text.split())


def same_words(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    """Raise UserError where two lists of sentences, of words or their tags, differ in length or in that of one."""
    if len(gold) != len(predicted):
        raise UserError(
            f"The gold has {len(gold)} sentences, the predictions {len(predicted)}; they must be the same ones."
        )
    for place, (own, other) in enumerate(zip(gold, predicted, strict=True), 1):
        if len(own) != len(other):
            raise UserError(
                f"Sentence {place} has {len(own)} words in the gold and {len(other)} in the predictions; "
                "a word without a prediction must be given as O."
            )


def _check_sentences(documents: Sequence[Document], predicted: Sequence[Document]) -> None:
    same_words([d.text.split(" ") for d in documents], [d.text.split(" ") for d in predicted])
    for place, (own, other) in enumerate(zip(documents, predicted, strict=True), 1):
        if own.text != other.text:
            raise UserError(f"Sentence {place} has other words in the predictions than in the gold.")


def _check_texts(wanted: set[tuple[str, str]], found: set[tuple[str, str]]) -> None:
    """Raise UserError where a document of some id has a text on one side that the other does not have."""
    named = {name for name, _ in found}
    for name, text in sorted(wanted ^ found):
        if name in named:
            side = "gold" if (name, text) in found else "predictions"
            raise UserError(
                f"Document {name!r} has another text in the predictions than in the gold: one of its texts is not in "
                f"the {side}; give each document whole, as it stands in the data."
            )


def _laid(document: Document, others: Sequence[Document]) -> tuple[Document, tuple[Span, ...]]:
    """A document and the mentions of others of its text; where these have other blanks, no mention ends with any."""
    if all(other.text == document.text for other in others):
        return document, tuple(span for other in others for span in other.spans)
    places = _places(document.text)
    moved = tuple(_moved(span, _places(other.text), places) for other in others for span in other.spans)
    return replace(document, spans=tuple(_moved(span, places, places) for span in document.spans)), moved


def _places(text: str) -> list[int]:
    """The places of the signs of a text that are no blanks."""
    return [place for place, sign in enumerate(text) if not sign.isspace()]


def _moved(span: Span, own: Sequence[int], other: Sequence[int]) -> Span:
    parts = [_place(start, end, own, other) for start, end in span.places]
    return replace(span, start=parts[0][0], end=parts[-1][1], fragments=tuple(parts) if span.fragments else ())


def _place(start: int, end: int, own: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """Where the signs from `start` to `end` stand in the other text; nothing but blanks has no extent."""
    first, last = bisect_left(own, start), bisect_left(own, end)
    if first == last:
        return (other[first] if first < len(other) else 0,) * 2
    return other[first], other[last - 1] + 1
