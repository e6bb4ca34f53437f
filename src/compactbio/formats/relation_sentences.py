"""Sentences whose two mentions are marked in the text, each with the class of their relation.

In a table, `@GENE$` and the like replace the mentions (GAD, EU-ADR and ChemProt as BioBERT has them). In JSON lines,
`<< first >>` and `[[ second ]]` enclose them (ChemProt as SciBERT has it); such rows may be those of a Parquet table.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from compactbio.documents import Document, Relation, Span
from compactbio.formats.checks import Found, check_one_line, not_writable, string
from compactbio.formats.conll import QUOTED
from compactbio.formats.json_lines import documents_of_values, feature_names, named
from compactbio.formats.streams import Line, RecordError, attempt, each_line, named_errors

HEADER = "index\tsentence\tlabel\n"
MARK = re.compile(r"@([\w-]+)\$")
_HEAD = re.compile(r"<< (.+?) >>", re.DOTALL)
_TAIL = re.compile(r"\[\[ (.+?) \]\]", re.DOTALL)


def read(path: Path) -> Iterator[Found]:
    """Give the sentence of each line with its class, the last column, as the type of one relation.

    The id is the first of three columns, or the line's number. The text keeps its marks, which are the mentions. The
    relation is between them where there are two, else between the first and last of the marks as strings ("" without
    any). A first line whose last column is "label" is a header. A line without two or three columns, with other columns
    than the first line, or quoted as CSV is, is given as a RecordError.
    """
    width = 0
    with named_errors(path):
        for place, line in enumerate(each_line(path)):
            columns = line.text.split("\t")
            width = width or len(columns)
            if place or not is_header(columns):
                yield attempt(_row, path, line, columns, width)


def _row(path: Path, line: Line, columns: list[str], width: int) -> Document:
    line.check(path)
    form = "write sentence, tab, class"
    if len(columns) not in (2, 3):
        raise RecordError(path, line.number, f"it has not two or three columns but {len(columns)}", form)
    if len(columns) != width:
        raise RecordError(path, line.number, f"it has {len(columns)} columns, the first line has {width}", form)
    if QUOTED.fullmatch(columns[-1]) or (QUOTED.fullmatch(columns[-2]) and '""' in columns[-2]):
        raise RecordError(path, line.number, "it is quoted, as CSV is", "write its columns without quotes")
    return _table_document(columns[0] if len(columns) == 3 else str(line.number), *columns[-2:])


def read_jsonl(path: Path) -> Iterator[Found]:
    """Give the text of each line with its label as the type of one relation; the id is the line's number.

    The text keeps its marks; the mentions are what they enclose, the one in `<< >>` first. The relation is between them
    where each pair of marks occurs once, else between "<< >>" and "[[ ]]". A label may be a number that the table, or
    the description beside the file, names. A line without text and label is given as a RecordError.
    """
    names = cache(partial(feature_names, path))
    return documents_of_values(path, lambda path, place, value: _object(path, place, value, names))


def _object(path: Path, place: str, value: Any, names: Callable[[str], Sequence[str] | None]) -> Document:
    if not isinstance(value, Mapping):
        raise RecordError(path, place, "not a JSON object")
    label = value.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        [label] = named(path, place, "label", [label], names("label"))
    text = value.get("text")
    if text is None or label is None:
        raise RecordError(path, place, f"{'text' if text is None else 'label'} is not there")
    return _json_document(place.rpartition(" ")[2], string(text, "text"), string(label, "label"))


def is_header(columns: list[str]) -> bool:
    """Whether the first line of a table names its columns."""
    return len(columns) > 1 and columns[-1].strip().lower() == "label"


def serialise(document: Document) -> str:
    """A document's line with index, sentence and class. Raises UserError for what these cannot hold."""
    label = _label(document, "marked")
    check_one_line(document, "marked", document.id, document.text, label)
    if replace(document, tokenised=False) != _table_document(document.id, document.text, label):
        raise not_writable(document, "marked", "its mentions and relation are not those of its marks (@GENE$)")
    return f"{document.id}\t{document.text}\t{label}\n"


def serialise_jsonl(document: Document) -> str:
    """A document's JSON line with text and label, without its id. Raises UserError for what these cannot hold."""
    label = _label(document, "marked-jsonl")
    if replace(document, tokenised=False) != _json_document(document.id, document.text, label):
        raise not_writable(document, "marked-jsonl", "its mentions and relation are not those of its << >> and [[ ]]")
    return json.dumps({"text": document.text, "label": label}, ensure_ascii=False) + "\n"


def document_of(name: str, text: str, label: str) -> Document:
    """The document of a marked sentence and its class, as it is read from a table, or from JSON lines where its marks
    are `<< >>` and `[[ ]]`."""
    framed = _HEAD.search(text) and _TAIL.search(text) and not MARK.search(text)
    return (_json_document if framed else _table_document)(name, text, label)


def _label(document: Document, format: str) -> str:
    if len(document.relations) != 1:
        raise not_writable(document, format, f"it has {len(document.relations)} relations, not one")
    return document.relations[0].type


def _table_document(name: str, text: str, label: str) -> Document:
    marks = list(MARK.finditer(text))
    spans = tuple(Span(mark.start(), mark.end(), mark[1]) for mark in marks)
    if len(marks) == 2:
        return Document(name, text, spans, (Relation(0, 1, label),))
    kinds = list(dict.fromkeys(mark[0] for mark in marks)) or [""]
    return Document(name, text, spans, (Relation(kinds[0], kinds[-1], label),))


def _json_document(name: str, text: str, label: str) -> Document:
    heads, tails = list(_HEAD.finditer(text)), list(_TAIL.finditer(text))
    if len(heads) != 1 or len(tails) != 1:
        return Document(name, text, relations=(Relation("<< >>", "[[ ]]", label),))
    spans = tuple(Span(mark.start(1), mark.end(1), "") for mark in (heads[0], tails[0]))
    return Document(name, text, spans, (Relation(0, 1, label),))
