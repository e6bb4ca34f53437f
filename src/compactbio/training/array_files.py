"""Columns of NumPy arrays, one a row, in Arrow files that say whose they are, and by a digest that they are whole."""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compactbio.errors import UserError, sentence_for
from compactbio.files import atomic_file

# By the name of a column the values of its arrays, end to end, and where each array begins and the last one ends.
Columns = dict[str, tuple[NDArray[Any], NDArray[np.int32]]]
_OWNER, _DIGEST = b"compactbio", b"sha256"


def write(path: Path, columns: Mapping[str, Sequence[NDArray[Any]]], owner: str) -> None:
    """Write columns of arrays, one array a row, to an Arrow file that names its `owner`; whole or not at all.

    Raises UserError where the disk is full or may not be written.
    """
    arrays = {}
    for name, rows in columns.items():
        borders = np.cumsum([0, *map(len, rows)], dtype=np.int32)
        values = np.concatenate(rows) if rows else np.empty(0, dtype=np.float16)
        arrays[name] = pa.ListArray.from_arrays(pa.array(borders), pa.array(values))
    table = pa.table(arrays)
    table = table.replace_schema_metadata({_OWNER: owner, _DIGEST: _digest(table)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_file(path) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full and sentence_for(error) is None:
            raise
        problem = "no space is left on the device" if full else "it cannot be written"
        raise UserError(
            f"{path.parent}: {problem}; free some space, or fix that, and run the same command again: what the "
            "teachers computed is kept (COMPACTBIO_CACHE names the folder of the cache)."
        ) from error


class DamagedError(UserError):
    """A file of arrays is not as it was written."""


def read(path: Path, owner: str, name: str) -> pa.Table:
    """The table of a file, memory-mapped.

    Raises DamagedError for a file that is not as it was written, and UserError for one of another owner than `name`'s.
    """
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
        kept = table.schema.metadata or {}
        whole = all(pa.types.is_list(field.type) for field in table.schema) and kept.get(_DIGEST) == _digest(table)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            raise UserError(
                f"{path}: the system lets this process open no more files or map no more memory; raise its limits "
                "(ulimit -n, vm.max_map_count)."
            ) from error
        whole = False
    if not whole:
        raise DamagedError(f"{path}: it is damaged; delete it, and what it held is computed again.")
    if kept.get(_OWNER) != owner.encode():
        raise UserError(
            f"{path}: it holds the outputs of another teacher than {name}; delete it, and they are computed again."
        )
    return table


def _digest(table: pa.Table) -> bytes:
    """The SHA-256 of the values of a table, of its columns' names and types and of where its rows end."""
    found = hashlib.sha256(str(table.schema.remove_metadata()).encode())
    for values, borders in columns_of(table).values():
        found.update(borders.data)
        found.update(values.data)
    return found.hexdigest().encode()


def columns_of(table: pa.Table) -> Columns:
    """The columns of a table as views of what is mapped."""
    # A file has one batch, or none where it has no row; joined, they would be copied into memory.
    columns = zip(table.column_names, table.columns, strict=True)
    arrays = {name: column.chunk(0) if len(table) else column.combine_chunks() for name, column in columns}
    return {name: (array.values.to_numpy(), array.offsets.to_numpy()) for name, array in arrays.items()}
