"""Sentences and words of a text, as offsets."""

import re
from itertools import pairwise

from compactbio.documents import Document

# Letters and digits together, every other sign on its own, as BioBERT's data sets are tokenised.
_WORD = re.compile(r"[^\W_]+|[^\s]", re.UNICODE)
# A sentence ends at a full stop, question or exclamation mark, closing brackets and quotes included, before a blank and
# what can begin a sentence.
_END = re.compile(r"[.?!][\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9\u0391-\u03a9])")
# What ends in a full stop without ending a sentence.
_ABBREVIATIONS = frozenset(
    """al approx ca cf dr e.g eq et etc fig figs i.e i.m i.p i.v incl no nos nr p.o prof ref refs resp s.c sp spp ssp st
    subsp var viz vol vs""".split()  # noqa: SIM905 (thirty quoted words are no easier to read)
)


def words(document: Document) -> list[tuple[int, int]]:
    """The (start, end) of a document's words: those of its token file, else runs of letters and digits, and signs."""
    if not document.tokenised:
        return [match.span() for match in _WORD.finditer(document.text)]
    found, start = [], 0
    for word in document.text.split(" "):
        found.append((start, start + len(word)))
        start += len(word) + 1
    return found


def sentences(text: str) -> list[tuple[int, int]]:
    """The (start, end) of a text's sentences, which cover it; line breaks end a sentence.

    By rule: a full stop after an abbreviation or an initial ends none.
    """
    cuts = {match.end() for match in re.finditer(r"\n+", text)}
    for match in _END.finditer(text):
        if not _abbreviates(text, match.start()):
            cuts.add(match.end())
    borders = sorted({0, *cuts, len(text)})
    return [(start, end) for start, end in pairwise(borders) if text[start:end].strip()]


def _abbreviates(text: str, stop: int) -> bool:
    if text[stop] != ".":
        return False
    word = re.search(r"[\w.]*$", text[max(0, stop - 12) : stop])
    last = word.group() if word else ""
    initial = len(last) == 1 and last.isalpha() and last.isupper()
    return initial or last.lower() in _ABBREVIATIONS
