"""Token files: a word and its tag a line, a blank line between sentences.

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
from compactbio.errors import UserError
from compactbio.formats.faults import broken, numbered, on_one_line, only, unsayable

_DOCSTART = "-DOCSTART-"
_BLANKS = re.compile(" +")
_MEND = "write word, tab, tag"


class _Row(NamedTuple):
    line: int
    columns: tuple[str, ...]


def read(path: Path) -> Iterator[Document]:
    """Give each sentence as a tokenised document; tags in IOB1, IOB2, IOBES or BILOU, typed or bare.

    A document's id is the sentence's number from 1; after `-DOCSTART-` lines, the numbers of document and sentence
    with a full stop between. A line with a tab is split at tabs alone, another one at blanks. Raises UserError, when
    it gets there, for a line of one column, a word with a blank and an unknown tag.
    """
    for name, rows in _sentences(path):
        yield _document(path, name, rows)


def read_columns(path: Path) -> Iterator[list[tuple[str, ...]]]:
    """Give each sentence as rows of all its columns. Raises UserError as `read` does, unknown tags apart."""
    for _, rows in _sentences(path):
        yield [row.columns for row in rows]


def columns_of(line: str) -> tuple[str, ...]:
    """The columns of a line: between tabs where it has one, else between runs of blanks."""
    return tuple(line.split("\t") if "\t" in line else _BLANKS.split(line.strip(" ")))


def said(document: Document) -> str:
    """The lines of a document, `word TAB tag` in IOB2, and a blank one; identifiers of mentions have no place there.

    Raises UserError for mentions that overlap or do not begin and end with words, and for what is no mention.
    """
    only(document, "conll", "mentions")
    places = words(document)
    found = [document.text[start:end] for start, end in places]
    if not all(found) or _DOCSTART in found:
        raise unsayable(document, "conll", "a word is empty or -DOCSTART-")
    on_one_line(document, "conll", *found, *(span.type for span in document.spans))
    tags = iob2(_chunks(document, places), len(places))
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(found, tags, strict=True)) + "\n"


def _sentences(path: Path) -> Iterator[tuple[str, list[_Row]]]:
    document = sentence = last = 0
    rows: list[_Row] = []
    for line, text in numbered(path):
        columns = columns_of(text)
        begins = columns[0] == _DOCSTART
        # Blank lines are not given: they are the gaps between line numbers.
        if rows and (begins or line > last + 1):
            sentence += 1
            yield _name(document, sentence), rows
            rows = []
        last = line
        if begins:
            document, sentence = document + 1, 0
        else:
            rows.append(_row(path, line, columns))
    if rows:
        yield _name(document, sentence + 1), rows


def _name(document: int, sentence: int) -> str:
    return f"{document}.{sentence}" if document else str(sentence)


def _row(path: Path, line: int, columns: tuple[str, ...]) -> _Row:
    if len(columns) < 2:
        raise broken(path, line, "it has one column, not a word and its tag", _MEND)
    if not columns[0] or " " in columns[0]:
        raise broken(path, line, f"{columns[0][:40]!r} is not one word", _MEND)
    return _Row(line, columns)


def _document(path: Path, name: str, rows: Sequence[_Row]) -> Document:
    found = [row.columns[0] for row in rows]
    starts = list(accumulate((len(word) + 1 for word in found), initial=0))
    try:
        mentions = chunks([row.columns[-1] for row in rows])
    except ValueError:
        raise _unknown_tag(path, rows) from None
    spans = (Span(starts[start], starts[end] - 1, kind) for start, end, kind in mentions)
    return Document(name, " ".join(found), tuple(spans), tokenised=True)


def _unknown_tag(path: Path, rows: Sequence[_Row]) -> UserError:
    row = next(row for row in rows if not is_tag(row.columns[-1]))
    return broken(path, row.line, f"{row.columns[-1][:40]!r} is no tag", "write B, I or O, or B-TYPE and I-TYPE")


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
            raise unsayable(document, "conll", "a mention does not begin and end with words")
        chunk = Chunk(firsts[span.start], lasts[span.end] + 1, span.type)
        if chunk.start < free:
            raise unsayable(document, "conll", "mentions overlap")
        free = chunk.end
        found.append(chunk)
    return found
