"""From finished parts to the shards of a corpus and what the manifest says of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compactbio.corpus import merging, shards
from compactbio.corpus.merging import Bools, Citations, Fate
from compactbio.corpus.parts import Part
from compactbio.corpus.rows import HAS_ABSTRACT
from compactbio.corpus.settings import Selection
from compactbio.corpus.shards import BUCKET, Split
from compactbio.errors import UserError

NAMED_FAILURES = 20


def finish(
    parts: Sequence[Part], selection: Selection, out: Path, note: Callable[[str], None], wide: bool
) -> dict[str, Any]:
    """Choose among the citations of all parts, write the shards into `out`, and give what the manifest says of them.

    Raises UserError where no citation is kept, or none is left to train on; OSError where a shard cannot be written.
    """
    citations, sizes = merging.load([part.table for part in parts])
    excluded = selection.exclude or frozenset()
    deleted = {pmid for part in parts for pmid in part.tally.deletions}
    fates = merging.fates(citations, deleted, excluded, selection.require_abstract)
    kept = fates == Fate.KEPT
    counts = _counts(parts, citations, fates)
    if excluded:
        counts["excluded_found"] = merging.found(citations, excluded)
        note(f"excluded: {counts['excluded_found']:,} of the {len(excluded):,} PMIDs listed were found")
    if not kept.any():
        dropped = ", ".join(f"{fate.name.lower().replace('_', ' ')} {(fates == fate).sum():,}" for fate in Fate if fate)
        raise UserError(f"No citation is left of {counts['read']:,}: failed {counts['failed']:,}, {dropped}.")
    holdout = merging.held_out(citations, kept, selection.holdout)
    tables = [part.table for part in parts]
    for stale in (path for split in ("train", "holdout") for path in out.glob(f"{split}-*.arrow")):
        stale.unlink()
    splits = {
        name: shards.write(
            out, name, shards.selected_rows(zip(tables, _cut(mask, sizes), strict=True), wide), wide, shards.SHARD_BYTES
        )
        for name, mask in (("train", kept & ~holdout), ("holdout", holdout))
    }
    return {
        "sources": [_source_record(part) for part in parts],
        "counts": counts,
        "failed_examples": _examples(parts),
        "unknown_share": sum(part.tally.unknown for part in parts) / max(sum(part.tally.pieces for part in parts), 1),
        "rows": {name: split.rows for name, split in splits.items()},
        "tokens": {name: split.tokens for name, split in splits.items()},
        "length_histogram": _histogram(splits.values()),
        "sha256": {name: digest for split in splits.values() for name, digest in split.sha256.items()},
    }


def _cut(mask: Bools, sizes: Sequence[int]) -> Iterator[Bools]:
    """The mask's piece for each part."""
    yield from np.split(mask, np.cumsum(sizes)[:-1])


def _counts(parts: Sequence[Part], citations: Citations, fates: npt.NDArray[np.uint8]) -> dict[str, Any]:
    rejected: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.tally.rejected)
    of = {fate: int((fates == fate).sum()) for fate in Fate}
    title_only = int(((fates == Fate.KEPT) & ~citations.has(HAS_ABSTRACT)).sum())
    return {
        "read": sum(part.tally.records for part in parts),
        "kept": of[Fate.KEPT],
        "updated": of[Fate.UPDATED],
        "deleted": of[Fate.DELETED],
        "without_abstract": of[Fate.WITHOUT_ABSTRACT] + title_only,
        "empty": of[Fate.EMPTY],
        "duplicate": of[Fate.DUPLICATE],
        "excluded": of[Fate.EXCLUDED],
        "failed": rejected.total(),
        "failed_reasons": dict(sorted(rejected.items())),
    }


def _source_record(part: Part) -> dict[str, Any]:
    source = part.source
    return {
        "name": source.name,
        "bytes": source.bytes,
        "sha256": source.sha256,
        "format": part.tally.format,
        "records": part.tally.records,
    }


def _examples(parts: Sequence[Part]) -> list[dict[str, str]]:
    named = [{"source": part.source.name, **example} for part in parts for example in part.tally.examples]
    return named[:NAMED_FAILURES]


def _histogram(splits: Iterable[Split]) -> dict[str, int]:
    """Rows by length: "1-16", "17-32", ... up to the longest; empty steps between are listed too."""
    total: Counter[int] = Counter()
    for split in splits:
        total.update(split.lengths)
    return {f"{BUCKET * at + 1}-{BUCKET * (at + 1)}": total[at] for at in range(max(total) + 1)}
