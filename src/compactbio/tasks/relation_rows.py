"""Relation rows: sentences to pieces, long ones cut around their marked mentions, and logits back to classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.documents import Document
from compactbio.tasks.pieces import Pieces, pieces
from compactbio.tasks.relation import label_of
from compactbio.tasks.rows import NO_LABEL, Row
from compactbio.tasks.scheme import Scheme

# What the class of no relation is called where a model has no output for it.
NO_RELATION = "no relation"
# Mentions as GAD (@GENE$), ChemProt's first (<< .. >>) and second ([[ .. ]]) are marked.
_MARK = re.compile(r"@\w+\$|<<.*?>>|\[\[.*?\]\]")


@dataclass(frozen=True)
class Encoded:
    """Documents as rows, one each, of the classes of `scheme`. `shortened` counts the sentences that were too long and
    lost pieces."""

    rows: tuple[Row, ...]
    shortened: int
    scheme: Scheme


def encode(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerFast,
    label_ids: Mapping[str, int],
    scheme: Scheme,
    max_length: int,
) -> Encoded:
    """The rows [CLS] sentence [SEP] of documents with one relation each, of at most `max_length` tokens.

    The id of the relation's class is the label of [CLS], -100 where `label_ids` does not know it and elsewhere.
    A sentence that is too long keeps the pieces around its marks: all from the first mark to the last with as much on
    either side, or, where these lie too far apart, the two with as much around each; marks that alone are longer than
    the row lose pieces. Without marks its beginning is kept. Raises UserError as `relation.label_of` does.
    """
    room = max_length - 2
    rows, shortened = [], 0
    for document, own in zip(documents, pieces([d.text for d in documents], tokenizer), strict=True):
        label = label_ids.get(scheme.map(label_of(document)), NO_LABEL)
        ids = own.ids
        if len(ids) > room:
            ids, shortened = ids[_kept(document, own, room)], shortened + 1
        rows.append(_row(ids, label, tokenizer))
    return Encoded(tuple(rows), shortened, scheme)


def decode(
    logits: NDArray[np.float32], names: Sequence[str], scheme: Scheme, *, independent: bool = False
) -> list[str]:
    """The class of each row from its logits (rows, outputs); `names` are the classes in the order of their ids.

    Of `independent` outputs the most probable counts where it is more probable than not, else the class of no relation.
    """
    shares = probabilities(logits, independent=independent)
    likely = (shares.max(-1) >= 0.5).tolist() if independent else [True] * len(shares)
    none = scheme.negative or NO_RELATION
    return [names[best] if sure else none for best, sure in zip(shares.argmax(-1).tolist(), likely, strict=True)]


def probabilities(logits: NDArray[np.float32], *, independent: bool) -> NDArray[np.float32]:
    """The probabilities (rows, classes) of logits (rows, outputs): their softmax, or of `independent` outputs each its
    own sigmoid. A single output is that of the second of two classes."""
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    elif independent:
        return np.exp(-np.logaddexp(np.float32(0), -logits))
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]


def _row(ids: NDArray[np.int64], label: int, tokenizer: PreTrainedTokenizerFast) -> Row:
    tokens = np.concatenate([[tokenizer.cls_token_id], ids, [tokenizer.sep_token_id]])
    labels = np.full(len(tokens), NO_LABEL)
    labels[0] = label
    return Row(tokens, labels)


def _kept(document: Document, own: Pieces, room: int) -> NDArray[np.int64]:
    """The places of the `room` pieces that a sentence keeps."""
    marks = _marks(document)
    if not marks:
        return np.arange(room)
    places = [_places(mark, own) for mark in (marks[0], max(marks, key=lambda mark: mark[1]))]
    (first, _), (_, last) = places
    total = len(own.ids)
    if last - first <= room:
        return _around(first, last, room, total)
    sizes = _shared(room, *(stop - start for start, stop in places))
    return np.unique(np.concatenate([_around(*place, size, total) for place, size in zip(places, sizes, strict=True)]))


def _marks(document: Document) -> list[tuple[int, int]]:
    """The characters of the marks in the text and of the related mentions, sorted."""
    ends = (document.relations[0].head, document.relations[0].tail)
    related = [document.spans[end] for end in ends if isinstance(end, int) and end < len(document.spans)]
    return sorted([*(match.span() for match in _MARK.finditer(document.text)), *((s.start, s.end) for s in related)])


def _places(mark: tuple[int, int], own: Pieces) -> tuple[int, int]:
    """The pieces from the first to the last, end exclusive, that touch characters `mark`."""
    start, end = mark
    return int(np.searchsorted(own.offsets[:, 1], start, "right")), int(np.searchsorted(own.offsets[:, 0], end))


def _shared(room: int, first: int, second: int) -> tuple[int, int]:
    """What each of two marks of some pieces gets of a row: itself and half of what is free, or half of the row."""
    free = room - first - second
    own = first + free // 2 if free >= 0 else room // 2
    return own, room - own


def _around(first: int, last: int, size: int, total: int) -> NDArray[np.int64]:
    """`size` of `total` places with `first` to `last` in the middle, as far as the ends allow."""
    start = min(max((first + last - size) // 2, 0), total - size)
    return np.arange(start, start + size)
