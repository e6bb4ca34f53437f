"""Another system's documents matched with the gold ones: by order or id, across texts that differ in blanks alone."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.tasks.outcome import counted


def aligned(
    documents: Sequence[Document], predicted: Sequence[Document]
) -> tuple[list[Document], list[tuple[Span, ...]], tuple[str, ...]]:
    """Documents of the gold, the mentions predicted for each, in their offsets, and sentences on what was done.

    Sentences of a token file are matched in their order, raw text by its id. A predicted document has the words or text
    of the gold one; in raw text blanks may differ. Several of one id and text are joined; one that is missing has no
    mention. Raises UserError where texts or numbers of sentences differ, and where no document of the gold is among the
    predictions.
    """
    if all(document.tokenised for document in (*documents, *predicted)):
        _check_sentences(documents, predicted)
        return list(documents), [document.spans for document in predicted], ()
    by_id: defaultdict[str, defaultdict[str, list[Document]]] = defaultdict(lambda: defaultdict(list))
    for document in predicted:
        by_id[document.id][_without_blanks(document.text)].append(document)
    wanted = {(document.id, _without_blanks(document.text)) for document in documents}
    gold_ids = {name for name, _ in wanted}
    _check_texts(wanted, {(name, text) for name in gold_ids & by_id.keys() for text in by_id[name]})
    missing = gold_ids - by_id.keys()
    if len(missing) == len(gold_ids):
        raise UserError(
            f"None of the {len(gold_ids):,} documents is in the predictions, the first is {documents[0].id!r}: give "
            "predictions for these documents, under their ids."
        )
    same_text = [by_id[document.id][_without_blanks(document.text)] for document in documents]
    pairs = [_in_same_offsets(*pair) for pair in zip(documents, same_text, strict=True)]
    shifted = sum(any(other.text != d.text for other in others) for d, others in zip(documents, same_text, strict=True))
    notes = counted(
        {
            "documents of the data are not in the predictions; all their mentions count as missed": len(missing),
            "documents of the predictions are not in the data and are left out": sum(
                document.id not in gold_ids for document in predicted
            ),
            "documents are in the predictions more than once; their mentions are joined": sum(
                len(same) > 1 for name in gold_ids for same in by_id[name].values()
            ),
            "documents have other blanks in the predictions; offsets are compared in the text without blanks": shifted,
        }
    )
    return [document for document, _ in pairs], [spans for _, spans in pairs], notes


def comparable(span: Span, text: str) -> Span:
    """What is compared of a mention: its ends and type, and its parts where more than blanks lie between them."""
    fragments: list[tuple[int, int]] = []
    for start, end in sorted(span.fragments):
        if fragments and not text[fragments[-1][1] : start].strip():
            fragments[-1] = (fragments[-1][0], max(fragments[-1][1], end))
        else:
            fragments.append((start, end))
    return Span(span.start, span.end, span.type, fragments=tuple(fragments) if len(fragments) > 1 else ())


def outside(document: Document, types: Iterable[str]) -> list[Span]:
    """Mentions after the end of a document's text, one for each of `types`, so that each of them is wrong."""
    return [Span(start, start + 1, kind) for start, kind in enumerate(types, len(document.text))]


def same_words(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    """Raise UserError where two lists of sentences, of words or their tags, differ in length or in that of one."""
    if len(gold) != len(predicted):
        raise UserError(
            f"The gold has {len(gold)} sentences, the predictions {len(predicted)}; they must be the same ones."
        )
    for number, (a, b) in enumerate(zip(gold, predicted, strict=True), 1):
        if len(a) != len(b):
            raise UserError(
                f"Sentence {number} has {len(a)} words in the gold and {len(b)} in the predictions; "
                "a word without a prediction must be given as O."
            )


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _check_sentences(documents: Sequence[Document], predicted: Sequence[Document]) -> None:
    same_words([d.text.split(" ") for d in documents], [d.text.split(" ") for d in predicted])
    for number, (a, b) in enumerate(zip(documents, predicted, strict=True), 1):
        if a.text != b.text:
            raise UserError(f"Sentence {number} has other words in the predictions than in the gold.")


def _check_texts(wanted: set[tuple[str, str]], found: set[tuple[str, str]]) -> None:
    """Raise UserError where a document of some id has a text on one side that the other does not have."""
    named = {name for name, _ in found}
    for name, text in sorted(wanted ^ found):
        if name in named:
            side = "gold" if (name, text) in found else "predictions"
            raise UserError(
                f"Document {name!r} has another text in the predictions than in the gold: one of its texts is not in "
                f"the {side}; give each document whole, as it is in the data."
            )


def _in_same_offsets(document: Document, others: Sequence[Document]) -> tuple[Document, tuple[Span, ...]]:
    """A document and the mentions of others of its text; where these have other blanks, mentions end without blanks."""
    if all(other.text == document.text for other in others):
        return document, tuple(span for other in others for span in other.spans)
    places = _visible_places(document.text)
    moved = tuple(_moved(span, _visible_places(other.text), places) for other in others for span in other.spans)
    return replace(document, spans=tuple(_moved(span, places, places) for span in document.spans)), moved


def _visible_places(text: str) -> list[int]:
    """The places of the characters of a text that are not blanks."""
    return [place for place, character in enumerate(text) if not character.isspace()]


def _moved(span: Span, here: Sequence[int], there: Sequence[int]) -> Span:
    """The span in another text, by the places of the characters that are not blanks in this and the other text."""
    ranges = [_range(start, end, here, there) for start, end in span.places]
    return replace(span, start=ranges[0][0], end=ranges[-1][1], fragments=tuple(ranges) if span.fragments else ())


def _range(start: int, end: int, here: Sequence[int], there: Sequence[int]) -> tuple[int, int]:
    """Where the characters from `start` to `end` are in the other text; nothing but blanks is an empty range."""
    first, last = bisect_left(here, start), bisect_left(here, end)
    if first == last:
        return (there[first] if first < len(there) else 0,) * 2
    return there[first], there[last - 1] + 1
