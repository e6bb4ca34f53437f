"""Which records of PubMed's files are annotated: of each PMID the newest one, unless the NLM has withdrawn it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compactbio.corpus import crew, merging
from compactbio.corpus.identity import pmid_key
from compactbio.corpus.merging import Citations, Fate, Ints
from compactbio.corpus.progress import Listener
from compactbio.corpus.rows import HAS_PMID
from compactbio.documents import Citation, Deletion
from compactbio.errors import UserError
from compactbio.formats import pubmed
from compactbio.formats.recognise import recognise_texts
from compactbio.formats.texts import Reading

_STAGE = "looking for the newest records"


@dataclass(frozen=True)
class Versions:
    """What is passed over, by file as `Reading` has it; how many records were replaced by newer ones, or withdrawn."""

    passed_over: Mapping[str, bytes]
    updated: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class _Records:
    """The citations of a file in order, 16 bytes each, and the PMIDs that it withdraws."""

    path: Path
    key: Ints
    newness: Ints
    deleted: frozenset[str]


def choose(files: Sequence[Path], reading: Reading, workers: int, listener: Listener) -> Versions:
    """Read the PubMed XML among the files once for its PMIDs, and say which of its citations are passed over.

    The rules are those of a corpus (see `corpus.build`): version, date of revision, file name, place; a withdrawn PMID
    is withdrawn in whatever file it stands. Memory is 16 bytes a citation, and some more while they are sorted.
    """
    pubmed_files = [path for path in files if _is_pubmed(path, reading)]
    if not pubmed_files:
        return Versions({})
    found: list[_Records] = []
    for records in crew.results(_read, pubmed_files, workers, lambda: None):
        found.append(records)
        listener.step(_STAGE, len(found), len(pubmed_files))
    found.sort(key=lambda records: (records.path.name, str(records.path)))
    key = np.concatenate([records.key for records in found])
    newness = np.concatenate([records.newness for records in found])
    nothing = np.zeros(0, np.uint64)
    flags = np.full(len(key), HAS_PMID, np.uint8)
    citations = Citations(key, newness, nothing, nothing, flags, nothing.astype(np.uint32))
    deleted = frozenset().union(*(records.deleted for records in found))
    fates = merging.fates(citations, deleted, (), require_abstract=False)
    gone = (fates == Fate.DELETED) | (fates == Fate.UPDATED)
    cuts = np.cumsum([len(records.key) for records in found])[:-1]
    masks = {
        str(records.path.absolute()): mask.astype(np.uint8).tobytes()
        for records, mask in zip(found, np.split(gone, cuts), strict=True)
        if mask.any()
    }
    return Versions(masks, int((fates == Fate.UPDATED).sum()), int((fates == Fate.DELETED).sum()))


def _is_pubmed(path: Path, reading: Reading) -> bool:
    if reading.format is not None:
        return reading.format == "pubmed"
    try:
        return recognise_texts(path) == "pubmed"
    except UserError:
        return False


def _read(path: Path) -> _Records:
    key, newness, deleted = list[int](), list[int](), set[str]()
    try:
        for entry in pubmed.read(path):
            if isinstance(entry, Citation):
                key.append(pmid_key(entry.pmid))
                newness.append((entry.version << 32) | entry.revised)
            elif isinstance(entry, Deletion):
                deleted.add(entry.pmid)
    except UserError:
        # What was read counts; the file is reported when its texts are read.
        pass
    return _Records(path, np.array(key, np.uint64), np.array(newness, np.uint64), frozenset(deleted))
