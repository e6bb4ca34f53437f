"""Parquet tables of citations, with the columns of the JSON lines."""

from collections.abc import Iterator
from pathlib import Path

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
    try:
        with pq.ParquetFile(path) as table:
            names = set(table.schema_arrow.names)
            if not names.intersection(TEXT_KEYS):
                raise SourceError("has no column title, abstract or text")
            yield from _rows(table, [name for name in ("pmid", *TEXT_KEYS) if name in names])
    except UnicodeDecodeError as error:
        raise SourceError(f"is not UTF-8: byte 0x{error.object[error.start]:02x} in a string column") from error
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"is damaged: {str(error).splitlines()[0]}") from error


def _rows(table: pq.ParquetFile, columns: list[str]) -> Iterator[Citation | Rejected]:
    number = 0
    for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield citation(row, f"row {number}")
