"""Sentences with the two mentions of a pair marked, which relation models read, out of documents with mentions."""

import logging
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from compactbio.documents import Document, Relation, Span
from compactbio.documents.names import key
from compactbio.documents.words import sentences
from compactbio.errors import UserError
from compactbio.formats.checks import inconsistency
from compactbio.formats.relation_sentences import document_of

_LOGGER = logging.getLogger("compactbio.tasks")
_BLANKS = dict.fromkeys(map(ord, "\n\r\t\x0b\x0c\x85\u2028\u2029"), " ")
Pair = tuple[int, int]  # the places of head and tail among a document's mentions


@dataclass(frozen=True, slots=True)
class Marking:
    """Which pairs a relation model is trained on, and how they are marked.

    Attributes:
        head: The type of the first mention ("Gene"), or several, as ("GENE-Y", "GENE-N") of ChemProt and DrugProt.
        tail: The type of the second mention ("Disease"), or several.
        marks: What replaces the two mentions, in that order: a word ("@GENE$"), or a frame with {} for the mention's
            own text ("<< {} >>").

    Raises:
        UserError: For a side without a type.
    """

    head: str | tuple[str, ...]
    tail: str | tuple[str, ...]
    marks: tuple[str, str]

    def __post_init__(self) -> None:
        if not all(map(_types, (self.head, self.tail))):
            raise UserError("Name a type, or several, for each of the two mentions of a pair.")

    def heads(self) -> set[str]:
        """The types of the first mention, as `names.key` has them."""
        return set(map(key, _types(self.head)))

    def tails(self) -> set[str]:
        """Those of the second."""
        return set(map(key, _types(self.tail)))


def _types(named: str | tuple[str, ...]) -> tuple[str, ...]:
    return (named,) if isinstance(named, str) else named


def check_marks(marks: tuple[str, ...]) -> None:
    """Raise UserError for marks that do not tell head and tail apart."""
    if len(marks) != 2 or len(set(marks)) < 2 or not all(marks):
        raise UserError("The two marks of a relation model must differ, and neither may be empty: give two marks.")


def mark_pairs(documents: Iterable[Document], marking: Marking, negative: str = "false") -> Iterator[Document]:
    """Give a marked sentence for each pair of mentions that could be related, as `RelationAnnotator` marks it.

    A pair is a mention of a type of `marking.head` and one of `marking.tail` that share a sentence and no character.
    Its class is the type of their relation; where both sides have other types, whichever the relation names first.

    What cannot be a marked pair is counted in a warning of the log "compactbio.tasks": relations across sentences, of
    other types, of mentions that overlap or between concepts, and further relations of one pair, of which the first is
    taken.

    Args:
        documents: With their mentions and relations, as `compactbio.read` gives those of BRAT, BioC or BigBIO.
        marking: Which mentions are paired, and their marks.
        negative: The class of pairs that are not related.

    Raises:
        UserError: For marks that are alike, and for a document whose relations or offsets are outside of it.

    Examples:
        >>> from compactbio import Document, Marking, Relation, Span, mark_pairs
        >>> spans = (Span(0, 7, "Drug"), Span(17, 21, "Gene"))
        >>> document = Document("1", "Aspirin inhibits COX1.", spans, (Relation(0, 1, "INHIBITOR"),))
        >>> [marked] = mark_pairs([document], Marking("Drug", "Gene", ("@DRUG$", "@GENE$")))
        >>> marked.text, marked.relations[0].type
        ('@DRUG$ inhibits @GENE$.', 'INHIBITOR')
    """
    check_marks(marking.marks)
    lost = further = 0
    for document in documents:
        if wrong := inconsistency(document):
            raise UserError(f"Document {document.id!r} cannot be marked: {wrong}; fix it first.")
        stated = _stated(document, marking)
        lost += len(document.relations) - sum(map(len, stated.values()))
        for sentence, pair in pairs(document, marking):
            kinds = stated.pop(pair, [negative])
            further += len(kinds) - 1
            marked = marked_sentence(document, sentence, pair, marking.marks, kinds[0])
            yield document_of(f"{document.id}-{pair[0]}-{pair[1]}", marked.text.rstrip(), kinds[0])
        lost += sum(map(len, stated.values()))
    if lost:
        types = [" or ".join(_types(side)) for side in (marking.head, marking.tail)]
        _LOGGER.warning(
            "%d relations left out: not between a %s and a %s of one sentence that do not overlap", lost, *types
        )
    if further:
        _LOGGER.warning("%d relations left out: their pair has another one, which is taken", further)


def _stated(document: Document, marking: Marking) -> dict[Pair, list[str]]:
    """The types of the relations between two mentions, by the places of head and tail."""
    found = defaultdict[Pair, list[str]](list)
    heads, tails = marking.heads(), marking.tails()
    for relation in document.relations:
        head, tail = relation.head, relation.tail
        if isinstance(head, int) and isinstance(tail, int):
            first, second = (key(document.spans[end].type) for end in (head, tail))
            turned = first in tails and second in heads and heads.isdisjoint(tails)
            found[(tail, head) if turned else (head, tail)].append(relation.type)
    return found


def pairs(document: Document, marking: Marking) -> Iterator[tuple[tuple[int, int], Pair]]:
    """Each sentence (start, end) and pair (head, tail) of mentions that share it and no character."""
    heads, tails = marking.heads(), marking.tails()
    by_start = sorted(range(len(document.spans)), key=lambda i: document.spans[i].start)
    starts = [document.spans[i].start for i in by_start]
    whole = [(0, len(document.text))]
    for start, end in whole if document.tokenised else sentences(document.text, document.passages):
        near = by_start[bisect_left(starts, start) : bisect_right(starts, end)]
        inside = sorted(i for i in near if document.spans[i].end <= end)
        types = {i: key(document.spans[i].type) for i in inside}
        for head in (i for i in inside if types[i] in heads):
            for tail in (i for i in inside if types[i] in tails):
                first, second = document.spans[head], document.spans[tail]
                if first.end <= second.start or second.end <= first.start:
                    yield (start, end), (head, tail)


def marked_sentence(
    document: Document, sentence: tuple[int, int], pair: Pair, marks: tuple[str, str], label: str
) -> Document:
    """The sentence with both mentions of a pair marked, as a document of one relation; its spans are the marks."""
    original = document.text.translate(_BLANKS)
    text, spans, at = "", [], sentence[0]
    mentions = [document.spans[one] for one in pair]
    for span, mark in sorted(zip(mentions, marks, strict=True), key=lambda one: one[0].start):
        text += original[at : span.start]
        start = len(text)
        text += mark.replace("{}", original[span.start : span.end])
        spans.append(Span(start, len(text), span.type))
        at = span.end
    text += original[at : sentence[1]]
    return Document(document.id, text, tuple(spans), (Relation(0, 1, label),))
