"""The finished corpus as Arrow stream files of bounded size, in the form that `datasets` maps into memory."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compactbio.corpus import rows
from compactbio.corpus.merging import Bools
from compactbio.records import atomic, hashes

SHARD_BYTES = 256 << 20
BATCH_ROWS = 1_000
BUCKET = 16  # tokens


@dataclass
class Split:
    """What has been written of a split. `lengths` counts rows by (length - 1) // BUCKET."""

    rows: int = 0
    tokens: int = 0
    lengths: dict[int, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)  # by file name


def selected_rows(parts: Iterable[tuple[Path, Bools]], wide: bool) -> Iterator[pa.RecordBatch]:
    """The token rows of the citations that each part's mask selects, in order, batch by batch of the part."""
    for path, mask in parts:
        with pa.memory_map(str(path)) as file:
            start = 0
            for batch in pa.ipc.open_stream(file):
                chosen = batch.filter(pa.array(mask[start : start + batch.num_rows]))
                start += batch.num_rows
                yield _flattened(chosen, rows.corpus_schema(wide))


def _flattened(citations: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    parents = pc.list_parent_indices(citations["rows"])
    columns = [pc.list_flatten(citations["rows"]), citations["pmid"].take(parents)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def write(folder: Path, name: str, batches: Iterable[pa.RecordBatch], wide: bool, shard_bytes: int) -> Split:
    """Write `NAME-00000.arrow`, ... of record batches of BATCH_ROWS rows, a new shard after `shard_bytes` bytes.

    Raises OSError where they cannot be written.
    """
    split = Split()
    even = _even(batches, rows.corpus_schema(wide))
    first = next(even, None)
    while first is not None:
        path = folder / f"{name}-{len(split.sha256):05d}.arrow"
        with atomic.file(path) as partial:
            first = _write_shard(partial, first, even, split, shard_bytes)
        split.sha256[path.name] = hashes.of_file(path)
    return split


def _write_shard(
    path: Path, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch], split: Split, shard_bytes: int
) -> pa.RecordBatch | None:
    """Write a shard; give the batch that the next one begins with."""
    with ExitStack() as stack:
        sink = stack.enter_context(pa.OSFile(str(path), "wb"))
        writer = stack.enter_context(pa.ipc.new_stream(sink, first.schema))
        batch: pa.RecordBatch | None = first
        while batch is not None and sink.tell() < shard_bytes:
            writer.write_batch(batch)
            _count(batch, split)
            batch = next(rest, None)
        return batch


def _count(batch: pa.RecordBatch, split: Split) -> None:
    lengths = pc.list_value_length(batch["input_ids"]).to_numpy()
    split.rows += batch.num_rows
    split.tokens += int(lengths.sum())
    for bucket, count in zip(*np.unique((lengths - 1) // BUCKET, return_counts=True), strict=True):
        split.lengths[int(bucket)] = split.lengths.get(int(bucket), 0) + int(count)


def _even(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[Any]:
    """The same rows in batches of BATCH_ROWS, the last one smaller."""
    waiting, count = [], 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        if count >= BATCH_ROWS:
            table = pa.Table.from_batches(waiting, schema).combine_chunks()
            whole = count - count % BATCH_ROWS
            yield from table.slice(0, whole).to_batches(BATCH_ROWS)
            waiting, count = table.slice(whole).to_batches(), count - whole
    if count:
        yield from pa.Table.from_batches(waiting, schema).combine_chunks().to_batches()
