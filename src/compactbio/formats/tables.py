"""Parquet tables of citations, with the columns of the JSON lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio.documents import Citation
from compactbio.formats.fields import TEXT_KEYS, citation
from compactbio.formats.problems import Rejected, SourceError

_BATCH = 1_000


def read(path: Path) -> Iterator[Citation | Rejected]:
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
