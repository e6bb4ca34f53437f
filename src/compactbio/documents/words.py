"""Sentences and words of a text, as offsets, and characters that are not for readers or tokenizers."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from compactbio.documents import Document, Passage

# Raise it when texts are divided otherwise: teachers compute again. `annotate.shards.CUT_VERSION` is to be raised too.
RULES = 2
# Combining marks (accents and vowel signs that are characters of their own) belong to the letter before them, and
# invisible characters (soft hyphens, zero-width blanks and joiners, byte order marks) to the word around them.
# Beyond U+FFFF are those of a few old scripts; with them a set is searched one by one, six times as slowly.
_MARK = f"[{''.join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c)[0] == 'M')}]"
_INVISIBLE = "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
_LETTERS = rf"[^\W_]+(?:{_MARK}+[^\W_]*)*"
# Letters and digits together, every other character on its own, as BioBERT's data sets are tokenised.
_WORD = re.compile(rf"{_LETTERS}(?:{_INVISIBLE}+{_LETTERS})*|(?!{_INVISIBLE})\S{_MARK}*")
_UNSEEN = re.compile(_INVISIBLE)
_MOST_MARKS = 30  # that stand in a row in any script, by the Unicode Standard Annex 15
_SURROGATES = re.compile("[\ud800-\udfff]")
# A sentence ends at a full stop, question or exclamation mark, closing brackets and quotes included, before a blank and
# what can begin a sentence.
_END = re.compile(r"[.?!][\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9\u0391-\u03a9])")
# A line break, and what follows it within a paragraph whose lines are wrapped: a small letter, after the indentation.
_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_CONTINUES = re.compile(r"[ \t]*[a-z\u03b1-\u03c9\u00df-\u00f6\u00f8-\u00ff]")
_WRAPPED = 30  # characters of a line from which on it may be wrapped, and not one of a list
# What ends in a full stop without ending a sentence.
_ABBREVIATIONS = frozenset(
    """al approx ca cf dr e.g eq et etc fig figs i.e i.m i.p i.v incl no nos nr p.o prof ref refs resp s.c sp spp ssp st
    subsp var viz vol vs""".split()  # noqa: SIM905 (thirty quoted words are no easier to read)
)


def has_surrogates(text: str) -> bool:
    """Whether a text holds half a surrogate pair, which UTF-8 cannot encode."""
    return _SURROGATES.search(text) is not None


def without_surrogates(text: str) -> str:
    """The text with U+FFFD, one character as well, for each half of a surrogate pair, which no tokenizer takes."""
    return _SURROGATES.sub("\ufffd", text)


def words(document: Document, joined: frozenset[str] = frozenset()) -> list[tuple[int, int]]:
    """The (start, end) of a document's words: those of its token file, else runs of letters and digits, and signs.

    Invisible characters are not words, and do not divide one.

    Args:
        document: the document, with or without words of its own (`tokenised`).
        joined: the neighbourhoods in which a sign stays in its word, as `joined_signs` finds them.
    """
    if document.tokenised:
        found, start = [], 0
        for word in document.text.split(" "):
            found.append((start, start + len(word)))
            start += len(word) + 1
        return found
    found = [match.span() for match in _WORD.finditer(document.text)]
    return _rejoined(document.text, found, joined) if joined else found


def visible(word: str) -> str:
    """A word as a tokenizer is to read it: composed (NFC), without invisible characters.

    A word with more marks in a row than any script has is not composed, which would take time that grows as the square
    of their number.
    """
    if word.isascii():
        return word
    seen = _UNSEEN.sub("", word)
    return seen if _marks_in_a_row(seen) > _MOST_MARKS else unicodedata.normalize("NFC", seen)


def _marks_in_a_row(word: str) -> int:
    if len(word) <= _MOST_MARKS:
        return 0
    runs = groupby(word, key=lambda character: unicodedata.combining(character) > 0)
    return max((sum(1 for _ in run) for marks, run in runs if marks), default=0)


def joined_signs(documents: Iterable[Document]) -> frozenset[str]:
    """The neighbourhoods in which the words of token files keep a sign, as strings of three: "L-D" for IL-2.

    First and last are the kinds of the characters around the sign: L a letter, D a digit, S another sign, a blank the
    border of the word. A neighbourhood counts where the sign is within words more often than on its own beside such
    words.
    """
    within, alone = Counter[str](), Counter[str]()
    for document in documents:
        if not document.tokenised:
            continue
        found = document.text.split(" ")
        for before, word, after in zip(["", *found], found, [*found[1:], ""], strict=False):
            if len(word) == 1 and _class(word) == "S":
                left, right = _class(before[-1:]), _class(after[:1])
                # The blanks of the text are not known: the sign may have touched either neighbour or both.
                alone.update({left + word + right, left + word + " ", " " + word + right})
            else:
                within.update(_neighbourhood(word, i) for i, sign in enumerate(word) if _class(sign) == "S")
    return frozenset(place for place, count in within.items() if count > alone[place])


def _neighbourhood(text: str, at: int) -> str:
    return _class(text[at - 1] if at else "") + text[at] + _class(text[at + 1 : at + 2])


def _class(character: str) -> str:
    if not character or character.isspace():
        return " "
    return "D" if character.isdigit() else "L" if character.isalnum() else "S"


def _rejoined(text: str, found: list[tuple[int, int]], joined: frozenset[str]) -> list[tuple[int, int]]:
    """The words, those that a sign joins put together."""
    result: list[tuple[int, int]] = []
    continues = False  # whether the next word belongs to the last one
    for start, end in found:
        joins = _class(text[start]) == "S" and _neighbourhood(text, start) in joined
        if result and result[-1][1] == start and (continues or joins):
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
        continues = joins
    return result


def sentences(text: str, passages: Iterable[Passage] = ()) -> list[tuple[int, int]]:
    """The (start, end) of a text's sentences, which cover it; a passage begins one.

    By rule: a full stop after an abbreviation or an initial does not end one. A line break does, unless it only wraps
    a line: one of 30 characters or more, where the next one begins with a small letter.
    """
    stops = {match.end() for match in _END.finditer(text) if not _abbreviates(text, match.start())}
    borders = sorted({0, *_breaks(text), *stops, *(passage.start for passage in passages), len(text)})
    return [(start, end) for start, end in pairwise(borders) if text[start:end].strip()]


def _breaks(text: str) -> Iterator[int]:
    """The ends of the line breaks that end a sentence."""
    line = 0  # where it begins
    for match in _BREAK.finditer(text):
        wraps = match.start() - line >= _WRAPPED and match[0] in ("\n", "\r\n", "\r")
        if not (wraps and _CONTINUES.match(text, match.end())):
            yield match.end()
        line = match.end()


def _abbreviates(text: str, stop: int) -> bool:
    if text[stop] != ".":
        return False
    last = re.findall(r"[\w.]*$", text[max(0, stop - 12) : stop])[0]
    initial = len(last) == 1 and last.isalpha() and last.isupper()
    return initial or last.lower() in _ABBREVIATIONS
