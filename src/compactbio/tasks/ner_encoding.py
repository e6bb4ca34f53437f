"""NER rows: words to pieces, long sentences in overlapping windows, and a model's logits back to a tag a word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.documents import Document, Span
from compactbio.documents.tags import chunks, parse, repaired
from compactbio.documents.words import visible
from compactbio.modeling.packing import NO_LABEL, Row
from compactbio.tasks.ner import Sentence, split, tags

# The share of a window that the next one repeats.
_OVERLAP = 0.25


@dataclass(frozen=True)
class Window:
    """A run of a sentence's words as one row. `words` are the words that this window decides, `at` where the first
    piece of each stands in the row."""

    sentence: int
    words: tuple[int, ...]
    at: NDArray[np.int64]
    row: Row


@dataclass(frozen=True)
class Encoded:
    """Documents as rows. `pieces[i]` are the numbers of pieces of the words of sentence i; a word may have none."""

    sentences: tuple[Sentence, ...]
    pieces: tuple[tuple[int, ...], ...]
    windows: tuple[Window, ...]

    @property
    def rows(self) -> list[Row]:
        return [window.row for window in self.windows]


def encode(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerFast,
    label_ids: Mapping[str, int],
    max_length: int,
    joined: frozenset[str] = frozenset(),
) -> Encoded:
    """The rows of documents, of at most `max_length` tokens with [CLS] and [SEP]; nothing is cut.

    `joined` are the neighbourhoods in which a sign stays in its word (see `documents.words`).
    A word's label stands on its first piece, all else is -100, as are labels that `label_ids` does not know. A
    sentence that is too long is covered by overlapping windows, each word decided, and labelled, in the one where it
    stands most central. Of a word that alone is longer than a window, only the first pieces are read.
    """
    parts = split(documents, joined)
    pieces = _pieces(documents, parts, tokenizer)
    windows: list[Window] = []
    for place, part in enumerate(parts):
        own = [pieces[_text(documents, part, i)][: max_length - 2] for i in range(len(part.words))]
        wanted = [label_ids.get(tag, NO_LABEL) for tag in tags(part, documents[part.document].spans)]
        windows += _windows(place, own, wanted, tokenizer, max_length - 2)
    lengths = tuple(tuple(len(pieces[_text(documents, part, i)]) for i in range(len(part.words))) for part in parts)
    return Encoded(tuple(parts), lengths, tuple(windows))


def decode(encoded: Encoded, logits: Sequence[NDArray[np.float32]], names: Sequence[str]) -> list[list[str]]:
    """The tags of each sentence's words in valid IOB2, from the logits (length, labels) of each row.

    `names` are the labels in the order of their ids. A word without a piece has the tag of the word before it where the
    word after it continues that mention, else `O`.
    """
    found = [["O"] * len(part.words) for part in encoded.sentences]
    for window, values in zip(encoded.windows, logits, strict=True):
        best = values[window.at].argmax(-1)
        for word, label in zip(window.words, best.tolist(), strict=True):
            found[window.sentence][word] = names[label]
    return [repaired(_bridged(own, sizes)) for own, sizes in zip(found, encoded.pieces, strict=True)]


def mentions(
    encoded: Encoded, logits: Sequence[NDArray[np.float32]], names: Sequence[str]
) -> list[tuple[int, Span, float]]:
    """The mentions that `decode`'s tags stand for, each with its document's place and its score, in their order.

    The score, in (0, 1], is the mean over the mention's words of the probability that the word belongs to a mention of
    that type, whether as its first or a later word: the softmax of its logits, summed over the labels of the type.
    """
    if not encoded.windows:
        return []
    values = np.concatenate([values[window.at] for window, values in zip(encoded.windows, logits, strict=True)])
    weights = np.exp(values - values.max(-1, keepdims=True))
    shares = weights / weights.sum(-1, keepdims=True)  # (words, labels)
    types = [None if parse(name)[0] == "O" else parse(name)[1] for name in names]
    same = np.array([[a == b for b in types] for a in types], dtype=np.float32)
    summed = shares @ same  # (words, labels): at a label the share of its type
    best = shares.argmax(-1)
    inside = np.array([kind is not None for kind in types])[best]
    # Most sentences hold no mention: only those that do are looked at word by word.
    tagged: dict[int, tuple[list[str], NDArray[np.float64]]] = {}
    start = 0
    for window in encoded.windows:
        rows = range(start, start + len(window.words))
        start = rows.stop
        if not inside[rows.start : rows.stop].any():
            continue
        if window.sentence not in tagged:
            size = len(encoded.sentences[window.sentence].words)
            tagged[window.sentence] = (["O"] * size, np.zeros(size))
        tags, scores = tagged[window.sentence]
        for word, row in zip(window.words, rows, strict=True):
            tags[word], scores[word] = names[best[row]], summed[row, best[row]]
    return [
        (
            part.document,
            Span(part.words[first][0], part.words[end - 1][1], kind),
            float(scores[first:end][[size > 0 for size in sizes[first:end]]].mean()),
        )
        for sentence, (tags, scores) in tagged.items()
        for part, sizes in ((encoded.sentences[sentence], encoded.pieces[sentence]),)
        for first, end, kind in chunks(_bridged(tags, sizes))
    ]


def _bridged(tags: list[str], sizes: Sequence[int]) -> list[str]:
    """The tags of words with `sizes` pieces, where words without a piece belong to the mention around them."""
    if all(sizes):
        return tags
    result, seen = list(tags), -1  # seen: the last word with a piece
    for word, size in enumerate(sizes):
        if not size:
            continue
        prefix, kind = parse(tags[word])
        if seen >= 0 and prefix == "I" and parse(tags[seen]) in (("B", kind), ("I", kind)):
            result[seen + 1 : word] = [tags[word]] * (word - seen - 1)
        seen = word
    return result


def _text(documents: Sequence[Document], part: Sentence, word: int) -> str:
    start, end = part.words[word]
    return documents[part.document].text[start:end]


def _pieces(
    documents: Sequence[Document], parts: Sequence[Sentence], tokenizer: PreTrainedTokenizerFast
) -> dict[str, list[int]]:
    """The pieces of every distinct word, each tokenised once."""
    distinct = sorted({_text(documents, part, i) for part in parts for i in range(len(part.words))})
    if not distinct:
        return {}
    # Called, not its backend: what a tokenizer was saved to pad or cut to does not count then.
    read = [visible(word) for word in distinct]
    found = tokenizer(read, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return dict(zip(distinct, found, strict=True))


def _windows(
    sentence: int, pieces: Sequence[list[int]], wanted: Sequence[int], tokenizer: PreTrainedTokenizerFast, room: int
) -> list[Window]:
    lengths = [len(own) for own in pieces]
    runs = _runs(lengths, room)
    found = []
    for run, decided in zip(runs, _decided(lengths, runs), strict=True):
        words = tuple(word for word in decided if pieces[word])
        sizes = np.cumsum([1, *(len(pieces[word]) for word in run)])
        at = np.array([sizes[word - run.start] for word in words], dtype=np.int64)
        ids = [tokenizer.cls_token_id, *(piece for word in run for piece in pieces[word]), tokenizer.sep_token_id]
        labels = np.full(len(ids), NO_LABEL)
        labels[at] = [wanted[word] for word in words]
        found.append(Window(sentence, words, at, Row(np.array(ids), labels)))
    return found


def _runs(lengths: Sequence[int], room: int) -> list[range]:
    """Runs of words of at most `room` pieces that cover all words and overlap by about a quarter.

    Each goes further than the one before it, so that there are no more of them than words.
    """
    runs, start = [], 0
    while True:
        end, size = start, 0
        while end < len(lengths) and size + lengths[end] <= room:
            size += lengths[end]
            end += 1
        runs.append(range(start, end))
        if end >= len(lengths):
            return runs
        back, size, most = end, 0, min(room * _OVERLAP, room - lengths[end])
        while back - 1 > start and size + lengths[back - 1] <= most:
            back -= 1
            size += lengths[back]
        start = back


def _decided(lengths: Sequence[int], runs: Sequence[range]) -> list[list[int]]:
    """For each run the words that stand more central in it than in any other, by the pieces between a word and the
    nearer cut; a sentence's own ends are no cuts, and of equal runs the first decides."""
    before = np.concatenate([[0], np.cumsum(lengths)])  # (words + 1,): the pieces before each word
    margins, decides = np.full(len(lengths), -1.0), np.zeros(len(lengths), dtype=np.int64)
    for i, run in enumerate(runs):
        words = slice(run.start, run.stop)
        left = before[words] - before[run.start] if i else np.inf
        right = before[run.stop] - before[run.start + 1 : run.stop + 1] if i < len(runs) - 1 else np.inf
        own = np.broadcast_to(np.minimum(left, right), len(run))
        more = own > margins[words]
        margins[words][more], decides[words][more] = own[more], i
    return [(np.flatnonzero(decides[run.start : run.stop] == i) + run.start).tolist() for i, run in enumerate(runs)]
