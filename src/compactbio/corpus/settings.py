"""What decides a corpus beside its sources."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from compactbio.errors import UserError
from compactbio.records import hashes

Overflow = Literal["drop", "keep"]


@dataclass(frozen=True)
class RowSettings:
    """What decides the token rows of one citation; finished parts can be used again while these are the same."""

    tokenizer_sha256: str
    max_length: int
    overflow: Overflow
    wide: bool  # pieces need 32 bits
    published: bool = False  # titles without any square bracket
    unknown: int | None = None  # the id of the piece that stands for what the vocabulary lacks

    def __post_init__(self) -> None:
        if self.overflow not in ("drop", "keep"):
            raise UserError(f"--overflow {self.overflow}: must be drop or keep.")


@dataclass(frozen=True)
class Selection:
    """Which citations are kept and which of them are held out."""

    holdout: int
    require_abstract: bool
    exclude: frozenset[str] | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.holdout < 0:
            raise UserError(f"--holdout {self.holdout}: must be 0 or more rows.")


def as_record(rows: RowSettings, selection: Selection) -> dict[str, Any]:
    """The settings as they stand in the manifest; the list of excluded PMIDs as its size and hash."""
    exclude = selection.exclude
    return {
        **{key: value for key, value in asdict(rows).items() if key in ("max_length", "overflow", "published")},
        "holdout": selection.holdout,
        "require_abstract": selection.require_abstract,
        "exclude": None if exclude is None else {"listed": len(exclude), "sha256": hashes.of_value(sorted(exclude))},
    }


def read_exclude(path: Path) -> frozenset[str]:
    """The PMIDs of a file, one a line; blank lines and what follows a # are passed over.

    Raises UserError where the file is missing, is no text, or a line holds anything but one PMID.
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
            raise UserError(f"{path}, line {number}: one PMID a line is expected.")
        pmids.update(word.lstrip("0") if word.isascii() and word.isdigit() else word for word in words)
    return frozenset(pmids)
