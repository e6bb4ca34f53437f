"""From tokenised sources to the shards of a corpus: Arrow stream files of bounded size, and the manifest's counts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from compactbio.corpus import citation_rows, deduplication
from compactbio.corpus.citation_rows import HAS_ABSTRACT, TokenisedSource
from compactbio.corpus.deduplication import Bools, Citations, Fate, Selection
from compactbio.errors import UserError
from compactbio.files import atomic_file, file_digest

SHARD_BYTES = 256 << 20
BATCH_ROWS = 1_000
BUCKET = 16  # tokens


@dataclass
class Split:
    """What has been written of a split. `lengths` counts rows by (length - 1) // BUCKET."""

    rows: int = 0
    tokens: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    sha256: dict[str, str] = field(default_factory=dict)  # by file name


def _selected_rows(tables: Iterable[tuple[Path, Bools]], wide: bool) -> Iterator[pa.RecordBatch]:
    """The token rows of the citations that each table's mask selects, in order, batch by batch."""
    for path, mask in tables:
        with pa.memory_map(str(path)) as file:
            start = 0
            for batch in pa.ipc.open_stream(file):
                chosen = batch.filter(pa.array(mask[start : start + batch.num_rows]))
                start += batch.num_rows
                pmids = chosen["pmid"].take(pc.list_parent_indices(chosen["rows"]))
                columns = [pc.list_flatten(chosen["rows"]), pmids]
                yield pa.RecordBatch.from_arrays(columns, schema=citation_rows.corpus_schema(wide))


def _write(folder: Path, name: str, batches: Iterable[pa.RecordBatch], wide: bool) -> Split:
    """Write `NAME-00000.arrow`, ... of record batches of BATCH_ROWS rows, a new shard after SHARD_BYTES bytes."""
    split, schema = Split(), citation_rows.corpus_schema(wide)
    even = _even(batches, schema)
    batch = next(even, None)
    while batch is not None:
        path = folder / f"{name}-{len(split.sha256):05d}.arrow"
        with (
            atomic_file(path) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            while batch is not None and sink.tell() < SHARD_BYTES:
                writer.write_batch(batch)
                _count(batch, split)
                batch = next(even, None)
        split.sha256[path.name] = file_digest(path)
    return split


def _count(batch: pa.RecordBatch, split: Split) -> None:
    lengths = pc.list_value_length(batch["input_ids"]).to_numpy()
    split.rows += batch.num_rows
    split.tokens += int(lengths.sum())
    buckets, counts = np.unique((lengths - 1) // BUCKET, return_counts=True)
    split.lengths.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))


def _even(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[Any]:
    """The same rows in batches of BATCH_ROWS, of which the last may be smaller."""
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


NAMED_FAILURES = 20
# The counts of a manifest, in their order.
_SHOWN = (Fate.KEPT, Fate.UPDATED, Fate.DELETED, Fate.WITHOUT_ABSTRACT, Fate.EMPTY, Fate.DUPLICATE, Fate.EXCLUDED)


def finish(
    tokenised: Sequence[TokenisedSource], selection: Selection, out: Path, note: Callable[[str], None], wide: bool
) -> dict[str, Any]:
    """Choose among the citations of all sources, write the shards into `out`, and give what the manifest says of them.

    Raises UserError where no citation is kept, or none is left to train on.
    """
    tables = [source.table for source in tokenised]
    citations, sizes = deduplication.load(tables)
    excluded = selection.exclude or frozenset()
    deleted = {pmid for source in tokenised for pmid in source.tally.deletions}
    fates = deduplication.decide_fates(citations, deleted, excluded, selection.require_abstract)
    kept = fates == Fate.KEPT
    counts = _counts(tokenised, citations, fates)
    if excluded:
        counts["excluded_found"] = deduplication.found(citations, excluded)
        note(f"excluded: {counts['excluded_found']:,} of the {len(excluded):,} PMIDs listed were found")
    if not kept.any():
        dropped = ", ".join(f"{fate.name.lower().replace('_', ' ')} {(fates == fate).sum():,}" for fate in Fate if fate)
        raise UserError(f"No citation is left of {counts['read']:,}: failed {counts['failed']:,}, {dropped}.")
    cuts = np.cumsum(sizes)[:-1]
    holdout = deduplication.held_out(citations, kept, selection.holdout)
    for stale in (path for split in ("train", "holdout") for path in out.glob(f"{split}-*.arrow")):
        stale.unlink()
    splits = {
        name: _write(out, name, _selected_rows(zip(tables, np.split(mask, cuts), strict=True), wide), wide)
        for name, mask in (("train", kept & ~holdout), ("holdout", holdout))
    }
    examples = [{"source": source.source.name, **example} for source in tokenised for example in source.tally.examples]
    tokens, unknown = (sum(getattr(source.tally, key) for source in tokenised) for key in ("tokens", "unknown"))
    return {
        "sources": [_source_record(source) for source in tokenised],
        "counts": counts,
        "failed_examples": examples[:NAMED_FAILURES],
        "unknown_share": unknown / max(tokens, 1),
        "rows": {name: split.rows for name, split in splits.items()},
        "tokens": {name: split.tokens for name, split in splits.items()},
        "length_histogram": _histogram(splits.values()),
        "sha256": {name: digest for split in splits.values() for name, digest in split.sha256.items()},
    }


def _counts(tokenised: Sequence[TokenisedSource], citations: Citations, fates: npt.NDArray[np.uint8]) -> dict[str, Any]:
    rejected = sum((Counter(source.tally.rejected) for source in tokenised), Counter[str]())
    of = {fate.name.lower(): int((fates == fate).sum()) for fate in _SHOWN}
    of["without_abstract"] += int(((fates == Fate.KEPT) & ~citations.has(HAS_ABSTRACT)).sum())
    read = sum(source.tally.records for source in tokenised)
    return {"read": read, **of, "failed": rejected.total(), "failed_reasons": dict(sorted(rejected.items()))}


def _source_record(tokenised: TokenisedSource) -> dict[str, Any]:
    source, tally = tokenised.source, tokenised.tally
    held = {"format": tally.format, "records": tally.records}
    return {"name": source.name, "bytes": source.bytes, "sha256": source.sha256, **held}


def _histogram(splits: Iterable[Split]) -> dict[str, int]:
    """Rows by length: "1-16", "17-32", ... up to the longest, empty steps included."""
    total = sum((split.lengths for split in splits), Counter[int]())
    return {f"{BUCKET * at + 1}-{BUCKET * (at + 1)}": total[at] for at in range(max(total) + 1)}
