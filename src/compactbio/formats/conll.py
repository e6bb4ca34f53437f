"""Token files: a word and its tag per line, a blank line between sentences.

BioBERT's two columns, CoNLL-2003's four, and the output of conlleval: the word is the first column, the tag the last.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from compactbio.documents import Document, Span
from compactbio.documents.tags import Chunk, chunks, iob2, is_tag
from compactbio.documents.words import words
from compactbio.formats.checks import Found, check_one_line, check_only, not_writable
from compactbio.formats.streams import Line, RecordError, attempt, each_line, named_errors

_DOCSTART, _JNLPBA = "-DOCSTART-", "###MEDLINE:"
_BLANKS = re.compile(" +")
_FORM = "write word, tab, tag"
# A column as CSV writers quote it; a word counts as such only with doubled quotes, for words in quotes exist.
QUOTED = re.compile(r'"(?:[^"]|"")*"')
_QUOTED_TWICE = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
_Row = tuple[Line, tuple[str, ...]]  # a line and its columns


def read(path: Path) -> Iterator[Found]:
    """Give each sentence as a tokenised document; tags in IOB1, IOB2, IOBES or BILOU, typed or bare.

    A document's id is the sentence's number from 1; after lines that begin a document (`-DOCSTART-`, or JNLPBA's
    `###MEDLINE:...`), the numbers of document and sentence with a full stop between. A line with a tab is split at tabs
    alone, another one at blanks. A sentence is given as a RecordError where a line has one column, other columns than
    the first line of the file, quotes as CSV has, a blank in the word, or an unknown tag.
    """
    for name, rows, width in _sentences(path):
        yield attempt(_document, path, name, rows, width)


def columns_of(line: str) -> tuple[str, ...]:
    """The columns of a line: between tabs where it has one, else between runs of blanks."""
    return tuple(line.split("\t") if "\t" in line else _BLANKS.split(line.strip(" ")))


def serialise(document: Document) -> str:
    """The lines of a document, `word TAB tag` in IOB2, and a blank one; identifiers of mentions are not written.

    Raises UserError for mentions that overlap or do not begin and end with words, and for relations and questions.
    """
    check_only(document, "conll", "mentions")
    places = words(document)
    found = [document.text[start:end] for start, end in places]
    if not all(found) or _DOCSTART in found:
        raise not_writable(document, "conll", "a word is empty or -DOCSTART-")
    check_one_line(document, "conll", *found, *(span.type for span in document.spans))
    tags = iob2(_chunks(document, places), len(places))
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(found, tags, strict=True)) + "\n"


def _sentences(path: Path) -> Iterator[tuple[str, list[_Row], int]]:
    """Each sentence's id and lines, and how many columns the file's first line has."""
    document = sentence = last = width = 0
    rows: list[_Row] = []
    with named_errors(path):
        for line in each_line(path):
            columns = columns_of(line.text)
            begins = columns[0] == _DOCSTART or (len(columns) == 1 and columns[0].startswith(_JNLPBA))
            # Blank lines are not given: they are the gaps between line numbers.
            if rows and (begins or line.number > last + 1):
                sentence += 1
                yield _name(document, sentence), rows, width
                rows = []
            last = line.number
            if begins:
                document, sentence = document + 1, 0
            else:
                width = width or len(columns)
                rows.append((line, columns))
    if rows:
        yield _name(document, sentence + 1), rows, width


def _name(document: int, sentence: int) -> str:
    return f"{document}.{sentence}" if document else str(sentence)


def _check(path: Path, line: Line, columns: tuple[str, ...], width: int) -> None:
    line.check(path)
    number = line.number
    if len(columns) < 2:
        raise RecordError(path, number, "it has one column, not a word and its tag", _FORM)
    if len(columns) != width:
        raise RecordError(path, number, f"it has {len(columns)} columns, the first line has {width}", _FORM)
    if _QUOTED_TWICE.fullmatch(columns[0]) or QUOTED.fullmatch(columns[-1]):
        raise RecordError(path, number, "it is quoted, as CSV is", "write its columns without quotes")
    if not columns[0] or " " in columns[0]:
        shown = f"{columns[0][:40]!r} is not one word"
        raise RecordError(path, number, "its first column is empty or has a blank", _FORM, shown=shown)
    if not is_tag(columns[-1]):
        raise unknown_tag(path, number, columns[-1])


def _document(path: Path, name: str, rows: Sequence[_Row], width: int) -> Document:
    for line, columns in rows:
        _check(path, line, columns, width)
    return tagged(name, [columns[0] for _, columns in rows], [columns[-1] for _, columns in rows])


def tagged(name: str, found: Sequence[str], tags: Sequence[str]) -> Document:
    """The document that words and their tags make. Raises ValueError for an unknown tag."""
    starts = list(accumulate((len(word) + 1 for word in found), initial=0))
    spans = (Span(starts[start], starts[end] - 1, kind) for start, end, kind in chunks(tags))
    return Document(name, " ".join(found), tuple(spans), tokenised=True)


def unknown_tag(path: Path, place: str | int, tag: str) -> RecordError:
    """The error for a tag of no known scheme."""
    fix = "write B, I or O, or B-TYPE and I-TYPE"
    return RecordError(path, place, "it has a tag of no known scheme", fix, shown=f"{tag[:40]!r} is not a tag")


def _chunks(document: Document, places: Sequence[tuple[int, int]]) -> list[Chunk]:
    firsts = {start: number for number, (start, _) in enumerate(places)}
    ends = {end: number for number, (_, end) in enumerate(places, 1)}
    spans = sorted(document.spans, key=lambda span: span.start)
    if any(span.start not in firsts or span.end not in ends for span in spans):
        raise not_writable(document, "conll", "a mention does not begin and end with words")
    if any(before.end > span.start for before, span in pairwise(spans)):
        raise not_writable(document, "conll", "mentions overlap")
    return [Chunk(firsts[span.start], ends[span.end], span.type) for span in spans]
