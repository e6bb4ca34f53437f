"""Token files: a word and its tag per line, a blank line between sentences.

BioBERT's two columns, CoNLL-2003's four, and the output of conlleval: the word is the first column, the tag the last.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from compactbio.documents import Document, Span
from compactbio.documents.tags import Chunk, chunks, iob2, parse
from compactbio.documents.words import words
from compactbio.formats.checks import Found, check_one_line, check_only, not_writable
from compactbio.formats.streams import Line, RecordError, attempt, each_line, named_errors

_DOCSTART = "-DOCSTART-"
_BLANKS = re.compile(" +")
_FORM = "write word, tab, tag"
# A column as CSV writers quote it; a word counts as such only with doubled quotes, for words in quotes exist.
QUOTED = re.compile(r'"(?:[^"]|"")*"')
_QUOTED_TWICE = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')


class _Row(NamedTuple):
    """A line in columns; `width` is how many the file's first line has."""

    line: Line
    columns: tuple[str, ...]
    width: int


def read(path: Path) -> Iterator[Found]:
    """Give each sentence as a tokenised document; tags in IOB1, IOB2, IOBES or BILOU, typed or bare.

    A document's id is the sentence's number from 1; after `-DOCSTART-` lines, the numbers of document and sentence
    with a full stop between. A line with a tab is split at tabs alone, another one at blanks. A sentence is given as a
    RecordError where a line has one column, other columns than the first line of the file, quotes as CSV has, a blank
    in the word, or an unknown tag.
    """
    for name, rows in _sentences(path):
        yield attempt(_document, path, name, rows)


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


def _sentences(path: Path) -> Iterator[tuple[str, list[_Row]]]:
    document = sentence = last = width = 0
    rows: list[_Row] = []
    with named_errors(path):
        for line in each_line(path):
            columns = columns_of(line.text)
            begins = columns[0] == _DOCSTART
            # Blank lines are not given: they are the gaps between line numbers.
            if rows and (begins or line.number > last + 1):
                sentence += 1
                yield _name(document, sentence), rows
                rows = []
            last = line.number
            if begins:
                document, sentence = document + 1, 0
            else:
                width = width or len(columns)
                rows.append(_Row(line, columns, width))
    if rows:
        yield _name(document, sentence + 1), rows


def _name(document: int, sentence: int) -> str:
    return f"{document}.{sentence}" if document else str(sentence)


def _checked(path: Path, row: _Row) -> _Row:
    """The row. Raises RecordError where it cannot be used."""
    columns, number = row.columns, row.line.number
    row.line.check(path)
    if len(columns) < 2:
        raise RecordError(path, number, "it has one column, not a word and its tag", _FORM)
    if len(columns) != row.width:
        raise RecordError(path, number, f"it has {len(columns)} columns, the first line has {row.width}", _FORM)
    if _QUOTED_TWICE.fullmatch(columns[0]) or QUOTED.fullmatch(columns[-1]):
        raise RecordError(path, number, "it is quoted, as CSV is", "write its columns without quotes")
    if not columns[0] or " " in columns[0]:
        shown = f"{columns[0][:40]!r} is not one word"
        raise RecordError(path, number, "its first column is empty or has a blank", _FORM, shown=shown)
    return row


def _document(path: Path, name: str, rows: Sequence[_Row]) -> Document:
    columns = [_checked(path, row).columns for row in rows]
    wrong = next((row for row in rows if not is_tag(row.columns[-1])), None)
    if wrong:
        raise unknown_tag(path, wrong.line.number, wrong.columns[-1])
    return tagged(name, [row[0] for row in columns], [row[-1] for row in columns])


def tagged(name: str, found: Sequence[str], tags: Sequence[str]) -> Document:
    """The document that words and their tags make. Raises ValueError for an unknown tag."""
    starts = list(accumulate((len(word) + 1 for word in found), initial=0))
    spans = (Span(starts[start], starts[end] - 1, kind) for start, end, kind in chunks(tags))
    return Document(name, " ".join(found), tuple(spans), tokenised=True)


def unknown_tag(path: Path, place: str | int, tag: str) -> RecordError:
    """The error for a tag of no known scheme."""
    fix = "write B, I or O, or B-TYPE and I-TYPE"
    return RecordError(path, place, "it has a tag of no known scheme", fix, shown=f"{tag[:40]!r} is not a tag")


def is_tag(column: str) -> bool:
    """Whether a column is a tag of one of the known schemes."""
    try:
        parse(column)
    except ValueError:
        return False
    return True


def _chunks(document: Document, places: Sequence[tuple[int, int]]) -> list[Chunk]:
    firsts = {start: number for number, (start, _) in enumerate(places)}
    lasts = {end: number for number, (_, end) in enumerate(places)}
    found: list[Chunk] = []
    free = 0
    for span in sorted(document.spans, key=lambda span: span.start):
        if span.start not in firsts or span.end not in lasts:
            raise not_writable(document, "conll", "a mention does not begin and end with words")
        chunk = Chunk(firsts[span.start], lasts[span.end] + 1, span.type)
        if chunk.start < free:
            raise not_writable(document, "conll", "mentions overlap")
        free = chunk.end
        found.append(chunk)
    return found
