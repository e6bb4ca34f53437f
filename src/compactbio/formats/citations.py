"""Files of citations, whatever their format; plain text and Parquet tables are read here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio.documents import Citation, Deletion
from compactbio.formats import json_lines, pubmed
from compactbio.formats.fields import TEXT_KEYS, citation, spaced
from compactbio.formats.recognise import Kind, kind
from compactbio.formats.streams import Rejected, SourceError, lines


def read_lines(path: Path) -> Iterator[Citation]:
    """Give each line that is not blank as a citation's abstract.

    Raises SourceError for a NUL character, which no text holds, and as `streams.lines` does.
    """
    for number, line in lines(path):
        if "\0" in line:
            raise SourceError(f"is not a text file: a NUL character in line {number}")
        yield Citation(pmid="", title="", abstract=spaced(line))


_BATCH = 1_000


def read_table(path: Path) -> Iterator[Citation | Rejected]:
    """Give each row's citation, or why it has none (columns: see `fields.citation`), in bounded memory.

    Raises SourceError for a damaged file and for one without any of the columns title, abstract and text.
    """
    for place, row in rows(path, TEXT_KEYS, ("pmid",)):
        yield citation(row, place)


def rows(path: Path, wanted: Sequence[str], also: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each row's place and its values in the columns `wanted`, of which one must be there, and `also`.

    Raises SourceError as `read` does.
    """
    try:
        with pq.ParquetFile(path) as table:
            names = set(table.schema_arrow.names)
            if not names.intersection(wanted):
                raise SourceError(f"has no column {_listed(wanted)}")
            yield from _rows(table, [name for name in (*also, *wanted) if name in names])
    except UnicodeDecodeError as error:
        raise SourceError(f"is not UTF-8: byte 0x{error.object[error.start]:02x} in a string column") from error
    except SourceError:
        raise
    # ValueError, OverflowError: a date or decimal that Python has no value for.
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(f"is damaged: {str(error).splitlines()[0]}") from error


def _rows(table: pq.ParquetFile, columns: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield f"row {number}", row


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


Entry = Citation | Deletion | Rejected


def read_citations(path: str | Path, known: Kind | None = None) -> Iterator[Entry]:
    """Give the records of a file in order: citations, withdrawn PMIDs, and records that cannot be used.

    `known` is the file's format where `kind` has already been asked. Text comes as it is written, with
    its blanks collapsed. Memory does not grow with the file.
    Raises SourceError, at any record, for a file that is not whole: nothing of it should be used then.
    """
    path = Path(path)
    match known or kind(path):
        case "xml":
            return pubmed.read(path)
        case "jsonl":
            return json_lines.read_citations(path)
        case "parquet":
            return read_table(path)
        case "text":
            return read_lines(path)
