"""Which records are kept: one per citation, of each PMID the newest version, none that was withdrawn."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from compactbio.corpus.citation_rows import HAS_ABSTRACT, HAS_PMID, HAS_TEXT, pmid_key
from compactbio.documents import Citation, Deletion
from compactbio.errors import UserError
from compactbio.formats import Reading, pubmed
from compactbio.formats.recognise import recognise_texts
from compactbio.processes import unordered_results
from compactbio.progress import Listener

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Selection:
    """Which citations are kept, and how many of their rows are held out."""

    holdout: int
    require_abstract: bool
    exclude: frozenset[str] | None = field(repr=False)


class Fate(IntEnum):
    """What becomes of a citation. Of several that apply, the first below counts, `KEPT` last."""

    EXCLUDED = 1  # the user listed its PMID
    DELETED = 2  # a DeleteCitation list withdrew its PMID
    UPDATED = 3  # a newer version of its PMID replaces it
    EMPTY = 4  # neither title nor abstract
    WITHOUT_ABSTRACT = 5  # a title only, where an abstract is required
    DUPLICATE = 6  # no PMID, and another record has its text
    KEPT = 0


@dataclass(frozen=True)
class Citations:
    """The citations of all sources. `key` and `newness` mean nothing where `flags` says that there is no PMID."""

    key: Ints
    newness: Ints
    text: Ints
    draw: Ints
    flags: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.uint32]

    def has(self, flag: int) -> Bools:
        """Which citations have this flag (see `citation_rows`)."""
        return (self.flags & np.uint8(flag)).astype(np.bool_)


def load(tables: Sequence[Path]) -> tuple[Citations, list[int]]:
    """The citations of tokenised sources, joined in their order, and how many each has. Token rows are not read."""
    columns = [_columns(table) for table in tables]
    joined = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    return Citations(**joined), [len(column["key"]) for column in columns]


def _columns(path: Path) -> dict[str, Any]:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
        columns = {
            field.name: table[field.name].to_numpy().copy() for field in fields(Citations) if field.name != "rows"
        }
        return columns | {"rows": pc.list_value_length(table["rows"]).to_numpy().astype(np.uint32)}


def decide_fates(
    citations: Citations, deleted: Iterable[str], excluded: Iterable[str], require_abstract: bool
) -> npt.NDArray[np.uint8]:
    """The `Fate` of each citation. `deleted` and `excluded` are PMIDs, whatever source names them."""
    with_pmid = citations.has(HAS_PMID)
    updated = np.zeros_like(with_pmid)
    updated[with_pmid] = _superseded(citations.key[with_pmid], citations.newness[with_pmid])
    rules: list[tuple[Fate, Bools]] = [
        (Fate.EXCLUDED, with_pmid & np.isin(citations.key, _keys(excluded))),
        (Fate.DELETED, with_pmid & np.isin(citations.key, _keys(deleted))),
        (Fate.UPDATED, updated),
        (Fate.EMPTY, ~citations.has(HAS_TEXT)),
        (Fate.WITHOUT_ABSTRACT, ~citations.has(HAS_ABSTRACT) if require_abstract else np.zeros_like(with_pmid)),
        (Fate.DUPLICATE, _repeated(citations, with_pmid)),
    ]
    result = np.full(len(with_pmid), Fate.KEPT, np.uint8)
    for fate, applies in reversed(rules):
        result[applies] = fate
    return result


def _keys(pmids: Iterable[str]) -> Ints:
    return np.array([pmid_key(pmid) for pmid in pmids], np.uint64)


def _superseded(key: Ints, newness: Ints) -> Bools:
    """Records of a PMID that has a newer one; of equally new ones the last in order is kept."""
    order = np.lexsort((newness, key))
    keys = key[order]
    result = np.zeros(len(key), np.bool_)
    result[order[:-1][keys[:-1] == keys[1:]]] = True
    return result


def _repeated(citations: Citations, with_pmid: Bools) -> Bools:
    """Records without a PMID whose text a record with a PMID has, whatever its fate, or an earlier one without."""
    places = np.flatnonzero(citations.has(HAS_TEXT))
    order = places[np.lexsort((~with_pmid[places], citations.text[places]))]
    texts = citations.text[order]
    result = np.zeros_like(with_pmid)
    result[order[1:][texts[:-1] == texts[1:]]] = True
    return result & ~with_pmid


def found(citations: Citations, pmids: frozenset[str]) -> int:
    """How many of the PMIDs any record has."""
    return int(np.isin(_keys(pmids), citations.key[citations.has(HAS_PMID)]).sum())


def held_out(citations: Citations, kept: Bools, rows: int) -> Bools:
    """The kept citations to hold out: those drawn first, whole, until they give at least `rows` token rows.

    A larger corpus draws a part of what a smaller one held out, and new citations: none that was trained on.
    Raises UserError where nothing would be left to train on.
    """
    result = np.zeros_like(kept)
    if rows == 0:
        return result
    places = np.flatnonzero(kept)
    order = places[np.argsort(citations.draw[places], kind="stable")]
    total = np.cumsum(citations.rows[order], dtype=np.int64)
    taken = int(np.searchsorted(total, rows)) + 1
    if taken >= len(order):
        raise UserError(
            f"{rows} rows to hold out: the corpus has {int(total[-1]):,} rows in all, none would be left to train on; "
            "choose a smaller number.",
            setting="holdout",
        )
    result[order[:taken]] = True
    return result


_STAGE = "looking for the newest records"


@dataclass(frozen=True)
class Versions:
    """The records not to read, by file as `Reading` has them, and how many of them are replaced, or withdrawn."""

    passed_over: Mapping[str, bytes]
    updated: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class _Records:
    """The citations of a file in order, and the PMIDs that it withdraws."""

    path: Path
    key: Ints
    newness: Ints
    deleted: frozenset[str]


def choose(files: Sequence[Path], reading: Reading, workers: int, listener: Listener) -> Versions:
    """Read the PubMed XML among the files for its PMIDs, and find the citations to pass over by a corpus's rules.

    Memory is 16 bytes per citation, and some more while they are sorted.
    """
    pubmed_files = [path for path in files if _is_pubmed(path, reading)]
    if not pubmed_files:
        return Versions({})
    found: list[_Records] = []
    for records in unordered_results(_read, pubmed_files, workers, lambda: None):
        found.append(records)
        listener.step(_STAGE, len(found), len(pubmed_files))
    found.sort(key=lambda records: (records.path.name, str(records.path)))
    key = np.concatenate([records.key for records in found])
    newness = np.concatenate([records.newness for records in found])
    deleted = np.isin(key, _keys(frozenset().union(*(records.deleted for records in found))))
    updated = _superseded(key, newness) & ~deleted
    cuts = np.cumsum([len(records.key) for records in found])[:-1]
    masks = {
        str(records.path.absolute()): mask.astype(np.uint8).tobytes()
        for records, mask in zip(found, np.split(deleted | updated, cuts), strict=True)
        if mask.any()
    }
    return Versions(masks, int(updated.sum()), int(deleted.sum()))


def _is_pubmed(path: Path, reading: Reading) -> bool:
    with suppress(UserError):
        return (reading.format or recognise_texts(path)) == "pubmed"
    return False


def _read(path: Path) -> _Records:
    key, newness, deleted = list[int](), list[int](), set[str]()
    # Of a damaged file what was read counts; it is reported when its texts are read.
    with suppress(UserError):
        for entry in pubmed.read(path):
            if isinstance(entry, Citation):
                key.append(pmid_key(entry.pmid))
                newness.append((entry.version << 32) | entry.revised)
            elif isinstance(entry, Deletion):
                deleted.add(entry.pmid)
    return _Records(path, np.array(key, np.uint64), np.array(newness, np.uint64), frozenset(deleted))
