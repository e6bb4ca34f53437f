"""What decides a corpus: its settings, and the size and hashes of its sources."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from compactbio.errors import UserError
from compactbio.files import file_digest, value_digest

Overflow = Literal["drop", "keep"]


@dataclass(frozen=True)
class RowSettings:
    """What decides the token rows of one citation; tokenised sources can be used again while these are the same."""

    tokenizer_sha256: str
    max_length: int
    overflow: Overflow
    wide: bool  # ids need 32 bits
    published: bool = False  # titles without any square bracket
    unknown: int | None = None  # the id of the token that replaces what the vocabulary lacks

    def __post_init__(self) -> None:
        if self.overflow not in ("drop", "keep"):
            raise UserError(f"{self.overflow}: overflow is drop or keep.", setting="overflow")


@dataclass(frozen=True)
class Selection:
    """Which citations are kept and which of them are held out."""

    holdout: int
    require_abstract: bool
    exclude: frozenset[str] | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.holdout < 0:
            raise UserError(f"{self.holdout} rows to hold out: there must be 0 or more.", setting="holdout")


def as_record(rows: RowSettings, selection: Selection) -> dict[str, Any]:
    """The settings as the manifest has them; the list of excluded PMIDs as its size and hash."""
    exclude = selection.exclude
    return {
        **{key: value for key, value in asdict(rows).items() if key in ("max_length", "overflow", "published")},
        "holdout": selection.holdout,
        "require_abstract": selection.require_abstract,
        "exclude": None if exclude is None else {"listed": len(exclude), "sha256": value_digest(sorted(exclude))},
    }


def read_exclude(path: Path) -> frozenset[str]:
    """The PMIDs of a file, one per line; blank lines and what follows a # are passed over.

    Raises UserError where the file is missing or is not text, or a line holds anything but one PMID.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (PMIDs to exclude).") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a text file of PMIDs.") from error
    pmids: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1:
            raise UserError(f"{path}, line {number}: one PMID per line is expected.")
        pmids.update(word.lstrip("0") if word.isascii() and word.isdigit() else word for word in words)
    return frozenset(pmids)


# As the NLM writes it, `MD5(file)= hex`, and as md5sum does, `hex  file`.
_MD5 = re.compile(r"^(?:MD5\s*\(.*\)\s*=\s*)?([0-9a-fA-F]{32})\b", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A file of citations. `problem` says why it cannot be used at all, else it is None."""

    path: Path
    bytes: int
    sha256: str
    problem: str | None = None

    @property
    def name(self) -> str:
        return self.path.name


def fingerprint(path: Path) -> Source:
    """Hash a file, and compare it with the `.md5` beside it; one that cannot be read is a source with a problem."""
    try:
        return Source(path, path.stat().st_size, file_digest(path), _disagreement(path))
    except OSError as error:
        return Source(path, 0, "", f"cannot be read: {error.strerror}")


def _disagreement(path: Path) -> str | None:
    beside = path.with_name(f"{path.name}.md5")
    if not beside.exists():
        return None
    found = file_digest(path, "md5")
    stated = _MD5.search(beside.read_text(encoding="utf-8", errors="replace"))
    if stated is None:
        return f"cannot be verified: {beside.name} holds no MD5 sum"
    if stated[1].lower() != found:
        return f"does not agree with {beside.name}: its MD5 is {found}, not {stated[1].lower()}"
    return None
