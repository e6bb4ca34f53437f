"""NER models: words to pieces, long sentences in overlapping windows, and logits back to one tag per word."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from compactbio.documents import Document, Span
from compactbio.documents.names import key, mention_types, spellings
from compactbio.documents.tags import chunks, parse, repaired, tagged_types
from compactbio.documents.words import visible
from compactbio.errors import UserError
from compactbio.modeling.packing import NO_LABEL, Row, softmax
from compactbio.modeling.tokenizers import Template, for_words, template
from compactbio.tasks import ner
from compactbio.tasks.ner import Sentence, Tags
from compactbio.tasks.outcome import Outcome, listed
from compactbio.tasks.settings import Decoding, named_labels

# The share of a window that the next one repeats.
_OVERLAP = 0.25


@dataclass(frozen=True)
class Window:
    """A run of a sentence's words as one row.

    `sentence` is the sentence's index, `words` are the words that this window decides, `first_pieces` the index in the
    row of the first piece of each.
    """

    sentence: int
    words: tuple[int, ...]
    first_pieces: NDArray[np.int64]
    row: Row


@dataclass(frozen=True)
class Encoded:
    """Documents as rows. `piece_counts[i]` are the numbers of pieces of the words of sentence i; a word may have 0."""

    sentences: tuple[Sentence, ...]
    piece_counts: tuple[tuple[int, ...], ...]
    windows: tuple[Window, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        return [window.row for window in self.windows]


def model_labels(config: PretrainedConfig, name: str, documents: Sequence[Document] = ()) -> list[str]:
    """A model's labels by id, their types spelt as in the documents that it is to be scored on.

    Where one side has a single type and the other none, the documents' is taken; where the documents have none and the
    model several, all its types become none. Raises UserError for labels of another task, and where no type of the
    documents is among the model's.
    """
    labels = named_labels(config, name)
    try:
        tags = [parse(label) for label in labels]
    except ValueError as error:
        raise UserError(
            f"{name}: its id2label is not one of NER: {error}; write B-TYPE, I-TYPE and O there, or fine-tune a "
            "model on these data."
        ) from None
    wanted = mention_types(documents)
    spelt = spellings(wanted)
    # DISEASE and Disease are one type.
    tags = [(prefix, spelt.get(key(kind), kind)) for prefix, kind in tags]
    known = {kind for prefix, kind in tags if prefix != "O"}
    if wanted == {""} and len(known) > 1:
        tags = [(prefix, "") for prefix, _ in tags]
    elif len(known) == len(wanted) == 1 and known != wanted and "" in known | wanted:
        (kind,) = wanted
        tags = [(prefix, kind) for prefix, _ in tags]
    elif wanted and not wanted & known and known != {""}:
        raise UserError(
            f"{name} finds {listed(known)}, the data hold {listed(wanted)}: score it on data with its own types, "
            "compare the extents alone (untyped), or fine-tune a model on these."
        )
    return [f"{prefix}-{kind}" if kind and prefix != "O" else prefix for prefix, kind in tags]


def encode(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerFast,
    label_ids: Mapping[str, int],
    max_length: int,
    joined: frozenset[str] = frozenset(),
) -> Encoded:
    """The rows of documents, of at most `max_length` tokens with the special ones; nothing is cut.

    Each word is cut into pieces for itself, with the mark of a word's start where the vocabulary has one, also after a
    bracket or hyphen (see `tokenizers.for_words`), so that words of a token file and of raw text are read alike.

    A word's label is put on its first piece, all else is -100, as are tags that `label_ids` lacks. A sentence that is
    too long is covered by overlapping windows, each word decided, and labelled, in the one where it is most central.
    Of a word that alone is longer than a window, only the first pieces are read. `joined` as for `documents.words`.
    """
    sentences = ner.split(documents, joined)
    texts = [[documents[sentence.document].text[start:end] for start, end in sentence.words] for sentence in sentences]
    ids = _word_ids({text for words in texts for text in words}, tokenizer)
    special = template(tokenizer)
    room = max_length - special.size
    windows: list[Window] = []
    for index, (sentence, words) in enumerate(zip(sentences, texts, strict=True)):
        tags = ner.tags(sentence, documents[sentence.document].spans)
        labels = [label_ids.get(tag, NO_LABEL) for tag in tags]
        windows += _windows(index, [ids[word][:room] for word in words], labels, special, room)
    piece_counts = tuple(tuple(len(ids[word]) for word in words) for words in texts)
    return Encoded(tuple(sentences), piece_counts, tuple(windows))


def decode(encoded: Encoded, logits: Sequence[NDArray[np.float32]], names: Sequence[str], how: Decoding) -> list[Tags]:
    """The tags of each sentence's words in valid IOB2, as layers: one of all types, or one of each (`by_type`).

    `logits` are (length, labels) of each row, `names` the model's labels by id. With `valid`, for a model that was
    trained on IOB2, it is the most probable sequence of tags that is valid; else the most probable tag of each word,
    with conlleval's reading of what is not valid. A word without a piece has the tag of the word before it where the
    word after it continues that mention, else `O`.
    """
    return [_layer(encoded, logits, names, ids, valid=how.valid) for ids in _layers(tuple(names), by_type=how.by_type)]


def decode_as(
    encoded: Encoded, logits: Sequence[NDArray[np.float32]], own: Sequence[str], labels: Sequence[str], how: Decoding
) -> list[Tags]:
    """`decode`'s tags with the types spelt as in `labels`, which are the model's `own` as data spell them, by id; two
    types that are one in the data still divide mentions."""
    predicted = decode(encoded, logits, own, how)
    pairs = [(parse(one), parse(other)) for one, other in zip(own, labels, strict=True)]
    kinds = {kind: other for (prefix, kind), (_, other) in pairs if prefix != "O"}
    if all(kind == other for kind, other in kinds.items()):
        return predicted
    spelt = {"O": "O"}
    for kind, other in kinds.items():
        for prefix in "BI":
            spelt[f"{prefix}-{kind}" if kind else prefix] = f"{prefix}-{other}" if other else prefix
    return [[[spelt[tag] for tag in tags] for tags in layer] for layer in predicted]


def only_types(predicted: Sequence[Tags], types: Set[str]) -> list[Tags]:
    """`decode`'s tags without the mentions of other types.

    Data that are not labelled for genes do not say whether a gene that a model finds is one.
    """
    return [[[tag if parse(tag)[1] in types else "O" for tag in tags] for tags in layer] for layer in predicted]


def _layer(
    encoded: Encoded, logits: Sequence[NDArray[np.float32]], names: Sequence[str], ids: Sequence[int], *, valid: bool
) -> Tags:
    """The tags of each sentence's words that only the labels `ids` are decided between."""
    found = [["O"] * len(sentence.words) for sentence in encoded.sentences]
    for index, words, values in _by_sentence(encoded, logits):
        for word, label in zip(words, _best_labels(values, names, ids, valid=valid), strict=True):
            found[index][word] = names[label]
    return [repaired(_bridged(tags, counts)) for tags, counts in zip(found, encoded.piece_counts, strict=True)]


@lru_cache(maxsize=64)
def _layers(names: tuple[str, ...], *, by_type: bool) -> tuple[tuple[int, ...], ...]:
    """The ids of the labels that are decided between: all, or for each type its own and `O`.

    A model that was taught by taggers of single types, as `units.combined` puts them together, then decides as they do:
    of the product of their probabilities, the labels of one type and `O` have the proportions of its tagger.
    """
    if not by_type:
        return (tuple(range(len(names))),)
    tags = [parse(name) for name in names]
    kinds = sorted(tagged_types(names))
    return tuple(tuple(i for i, (prefix, one) in enumerate(tags) if prefix == "O" or one == kind) for kind in kinds)


def _by_sentence(
    encoded: Encoded, logits: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[int, list[int], NDArray[np.float32]]]:
    """Of each sentence its index, its words that have a piece, and their logits (words, labels)."""
    pairs = zip(encoded.windows, logits, strict=True)
    for index, group in groupby(pairs, key=lambda pair: pair[0].sentence):
        windows = list(group)
        words = [word for window, _ in windows for word in window.words]
        values = np.concatenate([row[window.first_pieces] for window, row in windows])
        yield index, words, values


def _best_labels(values: NDArray[np.float32], names: Sequence[str], ids: Sequence[int], *, valid: bool) -> list[int]:
    """The label of each word of a sentence among `ids`, as for `decode`; values are (words, labels)."""
    values = values[:, ids]
    best: list[int] = values.argmax(-1).tolist()
    if valid:
        starts, follows = _transitions(tuple(names[i] for i in ids))
        # Where the most probable labels are valid, they are the most probable valid sequence too.
        if best and not (starts[best[0]] and follows[best[:-1], best[1:]].all()):
            best = _most_probable(values, starts, follows)
    return [ids[one] for one in best]


def _most_probable(values: NDArray[np.float32], starts: NDArray[np.bool_], follows: NDArray[np.bool_]) -> list[int]:
    """The labels of the most probable sequence that is allowed (Viterbi 1967), from logits (words, labels)."""
    # Logits and not probabilities: a word's normalisation is the same for all sequences.
    total = np.where(starts, values[0], -np.inf)
    penalty = np.where(follows, 0, -np.inf)
    before: list[NDArray[np.int64]] = []
    for word in values[1:]:
        reached = total[:, None] + penalty  # (from, to)
        before.append(reached.argmax(0))
        total = reached.max(0) + word
    path = [int(total.argmax())]
    for choice in reversed(before):
        path.append(int(choice[path[-1]]))
    return path[::-1]


@lru_cache(maxsize=64)
def _transitions(names: tuple[str, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which labels may begin a sentence in IOB2, (labels,), and which may follow which, (from, to)."""
    tags = [parse(name) for name in names]
    starts = np.array([prefix != "I" for prefix, _ in tags])
    follows = np.array([[to[0] != "I" or (one[0] in "BI" and one[1] == to[1]) for to in tags] for one in tags])
    return starts, follows


@dataclass(frozen=True)
class Mentions:
    """The mentions that `decode`'s tags stand for, and what their scores are computed from.

    Attributes:
        places: of each mention the index of its document, and its span.
        logits: (words, labels), of the words of all mentions, except for those without a piece; -inf for labels that
            were not decided between.
        inside: (words, labels), whether a label is of the type of the word's mention.
        owners: (words,), the index of each word's mention.
    """

    places: tuple[tuple[int, Span], ...]
    logits: NDArray[np.float32]
    inside: NDArray[np.bool_]
    owners: NDArray[np.int64]

    def scores(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """The score of each mention, (mentions,), in (0, 1].

        It is the mean over the mention's words of the probability that the word belongs to a mention of that type,
        whether as its first or a later word: the softmax of the logits of the labels that were decided between, divided
        by the temperature, summed over the labels of the type.
        """
        of_type = (softmax(self.logits / temperature) * self.inside).sum(-1)  # (words,)
        count = len(self.places)
        return np.bincount(self.owners, of_type, count) / np.bincount(self.owners, minlength=count)


def mentions(encoded: Encoded, logits: Sequence[NDArray[np.float32]], names: Sequence[str], how: Decoding) -> Mentions:
    """The mentions that `decode`'s tags stand for, sentence by sentence; the arguments are those of `decode`."""
    types = [None if parse(name)[0] == "O" else parse(name)[1] for name in names]
    places: list[tuple[int, Span]] = []
    words: list[NDArray[np.float32]] = []
    kinds: list[str] = []
    owners: list[int] = []
    layers = _layers(tuple(names), by_type=how.by_type)
    for (index, numbers, values), ids in ((one, ids) for one in _by_sentence(encoded, logits) for ids in layers):
        best = _best_labels(values, names, ids, valid=how.valid)
        # Most sentences hold no mention: only those that do are read word by word.
        if all(types[label] is None for label in best):
            continue
        decided = np.full_like(values, -np.inf)
        decided[:, ids] = values[:, ids]
        sentence, by_word = encoded.sentences[index], dict(zip(numbers, decided, strict=True))
        tags = ["O"] * len(sentence.words)
        for word, label in zip(numbers, best, strict=True):
            tags[word] = names[label]
        for first, end, kind in chunks(_bridged(tags, encoded.piece_counts[index])):
            own = [by_word[word] for word in range(first, end) if word in by_word]
            words += own
            kinds += [kind] * len(own)
            owners += [len(places)] * len(own)
            places.append((sentence.document, Span(sentence.words[first][0], sentence.words[end - 1][1], kind)))
    return Mentions(
        tuple(places),
        np.array(words, dtype=np.float32).reshape(-1, len(names)),
        np.array([[kind == other for other in types] for kind in kinds], dtype=np.bool_).reshape(-1, len(names)),
        np.array(owners, dtype=np.int64),
    )


def outcome(
    documents: Sequence[Document],
    encoded: Encoded,
    predicted: Sequence[Tags],
    labels: Sequence[str],
    protocol: str = "word",
) -> Outcome:
    """The outcome of `decode`'s tags, by the labels of a model: `ner.outcome` with a note on types that it lacks."""
    known = tagged_types(labels)
    unseen = mention_types(documents) - known
    note = f"The model knows no {listed(unseen)}: all mentions of it count as missed."
    if known == {""} and unseen:
        documents = ner.with_type(documents, "")
        note = f"Types are not compared, because the model names none; the data name {listed(unseen)}."
    result = ner.outcome(documents, encoded.sentences, predicted, protocol, encoded.piece_counts)
    return replace(result, notes=(*result.notes, note)) if unseen else result


def _bridged(tags: list[str], piece_counts: Sequence[int]) -> list[str]:
    """The tags of words, where words without a piece belong to the mention around them."""
    if all(piece_counts):
        return tags
    result, previous = list(tags), -1  # previous: the last word with a piece
    for word, count in enumerate(piece_counts):
        if not count:
            continue
        prefix, kind = parse(tags[word])
        if previous >= 0 and prefix == "I" and parse(tags[previous]) in (("B", kind), ("I", kind)):
            result[previous + 1 : word] = [tags[word]] * (word - previous - 1)
        previous = word
    return result


def _word_ids(words: set[str], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """The ids of the pieces of each word, as transformers gives them with `is_split_into_words`."""
    if not words:
        return {}
    ordered = sorted(words)
    # Called, not its backend: the padding and truncation that a tokenizer was saved with do not apply then.
    ids = for_words(tokenizer)(
        [visible(word) for word in ordered], add_special_tokens=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    return dict(zip(ordered, ids, strict=True))


def _windows(
    sentence: int, ids: Sequence[list[int]], wanted: Sequence[int], special: Template, room: int
) -> list[Window]:
    lengths = [len(word) for word in ids]
    runs = _runs(lengths, room)
    found = []
    for run, decided in zip(runs, _decided(lengths, runs), strict=True):
        words = tuple(word for word in decided if ids[word])
        starts = np.cumsum([len(special.gaps[0]), *(len(ids[word]) for word in run)])
        first_pieces = np.array([starts[word - run.start] for word in words], dtype=np.int64)
        tokens = special.ids([piece for word in run for piece in ids[word]])
        labels = np.full(len(tokens), NO_LABEL)
        labels[first_pieces] = [wanted[word] for word in words]
        found.append(Window(sentence, words, first_pieces, Row(tokens, labels)))
    return found


def _runs(lengths: Sequence[int], room: int) -> list[range]:
    """Runs of words of at most `room` pieces that cover all words and overlap by about a quarter.

    Each ends after the one before it, so that there are at most as many as words.
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
    """For each run the words that are more central in it than in any other, by the pieces between a word and the
    nearer cut; the ends of the sentence are not cuts, and of equal runs the first decides."""
    before = np.concatenate([[0], np.cumsum(lengths)])  # (words + 1,): the pieces before each word
    margins, decides = np.full(len(lengths), -1.0), np.zeros(len(lengths), dtype=np.int64)
    for i, run in enumerate(runs):
        words = slice(run.start, run.stop)
        left = before[words] - before[run.start] if i else np.inf
        right = before[run.stop] - before[run.start + 1 : run.stop + 1] if i < len(runs) - 1 else np.inf
        margin = np.broadcast_to(np.minimum(left, right), len(run))
        larger = margin > margins[words]
        margins[words][larger], decides[words][larger] = margin[larger], i
    return [(np.flatnonzero(decides[run.start : run.stop] == i) + run.start).tolist() for i, run in enumerate(runs)]
