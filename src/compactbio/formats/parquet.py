"""Parquet tables: the rows of any, and annotated documents in columns `id`, `text` and `entities`.

The columns of data sets on the Hugging Face hub are named in `json_lines`, `bigbio`, `questions` and
`relation_sentences`, which read rows as they read JSON objects.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio.documents import Document, Span
from compactbio.files import parse_json
from compactbio.formats.checks import (
    MISPLACED,
    BrokenFieldError,
    Found,
    check_only,
    identifier,
    inconsistency,
    left_out,
    string,
)
from compactbio.formats.streams import GZIP, RecordError, SourceError, named_errors

_LOGGER = logging.getLogger("compactbio.formats")
# A control character of a page's or the footer's header, or a length, follows; PAR1 is a gene too.
_MAGIC = re.compile(rb"PAR1[\x00-\x08\x0e-\x1f]")
_NUMBER, _STRING = pa.int64(), pa.string()
_ENTITY = pa.struct(
    {"start": _NUMBER, "end": _NUMBER, "text": _STRING, "type": _STRING, "identifier": _STRING, "score": pa.float64()}
)
_SCHEMA = pa.schema({"id": _STRING, "text": _STRING, "entities": pa.list_(_ENTITY)})
_ROWS = 1_000  # that are read or written together


def begins(start: bytes) -> bool:
    """Whether the beginning of a file is that of a table."""
    return _MAGIC.match(start) is not None


def count(path: Path) -> int:
    """The number of rows. Raises SourceError as `rows` does."""
    with _table(path) as table:
        return int(table.metadata.num_rows)


def rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row's place and its values in these columns, or in all that Python has values for, whatever their dates.

    Raises SourceError for a table that is damaged, and for a column that cannot be read.
    """
    with _table(path) as table:
        number = 0
        for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
            values = _values(path, batch, all_read=columns is not None)
            for at in range(len(batch)):
                number += 1
                yield f"row {number}", {name: column[at] for name, column in values.items()}


@contextmanager
def _table(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with path.open("rb") as file:
            if file.read(len(GZIP)) == GZIP:
                raise SourceError("is a Parquet file packed with gzip", "unpack it: Parquet is packed within")
        with pq.ParquetFile(path) as table:
            yield table
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0].removesuffix(".")
        raise SourceError(f"is damaged: {what}", "fetch or write it again") from error


def _values(path: Path, batch: pa.RecordBatch, *, all_read: bool) -> dict[str, list[Any]]:
    """The values of each column; one with dates that Python has no value for is left out and logged, unless all are
    read."""
    found = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = column.to_pylist()
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02x}"
            raise SourceError(f"is not UTF-8: byte {byte} in the column {name!r}") from error
        except (ValueError, OverflowError) as error:
            what = f"holds a value in the column {name!r} that Python has none for ({error})"
            if all_read:
                raise SourceError(what, "leave that column out") from error
            _LOGGER.warning("%s: it %s; the column is left out", path, what)
    return found


def schema(path: Path) -> pa.Schema:
    """The columns of a table. Raises SourceError where it is damaged."""
    with _table(path) as table:
        return table.schema.to_arrow_schema()


def description(path: Path) -> Any:
    """What the `datasets` library wrote of the columns into the table, None where it did not."""
    try:
        return parse_json((schema(path).metadata or {}).get(b"huggingface", b"null"))
    except ValueError:
        return None


def holds_documents(columns: pa.Schema) -> bool:
    """Whether a table has the columns of `write`."""
    if not set(_SCHEMA.names) <= set(columns.names):
        return False
    entities = columns.field("entities").type
    inner = entities.value_type if pa.types.is_list(entities) or pa.types.is_large_list(entities) else None
    return inner is not None and pa.types.is_struct(inner) and {"start", "end", "type"} <= {f.name for f in inner}


def read(path: Path) -> Iterator[Found]:
    """Give each row's document, or a RecordError.

    Mentions whose text is not at their offsets are left out and counted. Raises UserError for a table of other columns,
    or that is damaged.
    """
    with named_errors(path):
        if not holds_documents(schema(path)):
            raise SourceError(f"has no columns {', '.join(_SCHEMA.names[:-1])} and {_SCHEMA.names[-1]}", "name them so")
        for place, row in rows(path, _SCHEMA.names):
            yield _document(path, place, row)


def _document(path: Path, place: str, row: dict[str, Any]) -> Found:
    try:
        found = Document(
            identifier(row["id"], "id"),
            string(row["text"], "text"),
            tuple(_span(entity) for entity in row["entities"] or ()),
        )
    except BrokenFieldError as error:
        return RecordError(path, place, str(error))
    if reason := inconsistency(found):
        return RecordError(path, place, reason)
    stated = [entity.get("text") for entity in row["entities"] or ()]
    spans = [
        span
        for span, text in zip(found.spans, stated, strict=True)
        if text in (None, found.text[span.start : span.end])
    ]
    misplaced = [span.type for span in found.spans if span not in spans]
    left_out(path, found.id, len(found.spans) - len(spans), MISPLACED, misplaced)
    return replace(found, spans=tuple(spans))


def _span(entity: dict[str, Any] | None) -> Span:
    held = entity or {}
    start, end, score = held.get("start"), held.get("end"), held.get("score")
    if not (isinstance(start, int) and isinstance(end, int)):
        raise BrokenFieldError("an entity has no start and end")
    if not isinstance(score, float | None):
        raise BrokenFieldError("the score of an entity is not a floating-point number")
    type_, name = string(held.get("type"), "type"), identifier(held.get("identifier"), "identifier")
    return Span(start, end, type_, name, score=score)


def write(documents: Iterable[Document], path: Path) -> None:
    """Write a row per document. Raises UserError for what `row` refuses."""
    stream = map(row, documents)
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        while held := list(islice(stream, _ROWS)):
            writer.write_table(pa.Table.from_pylist(held, _SCHEMA))


def row(document: Document) -> dict[str, Any]:
    """The row of a document. Raises UserError for relations, questions and mentions in several parts."""
    check_only(document, "parquet", "mentions")
    entities = [{**asdict(span), "text": document.text[span.start : span.end]} for span in document.spans]
    return {"id": document.id, "text": document.text, "entities": entities}
