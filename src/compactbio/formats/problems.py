"""What can be wrong with a source: with one record of it, or with the whole file."""

from dataclasses import dataclass
from pathlib import Path

from compactbio.errors import UserError


class SourceError(UserError):
    """A file that cannot be used whole. The sentence is a predicate without the file's name: "is truncated"."""


class RecordError(UserError):
    """What is malformed in `file`: at `place`, for `reason`. Where a reader gives it in the place of a document, it can
    read on behind it."""

    def __init__(self, sentence: str, file: Path, place: str, reason: str) -> None:
        super().__init__(sentence)
        self.file, self.place, self.reason = file, place, reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used.

    `place` says where it stands ("line 7", "PMID 123"); `reason` is one of few sentences and never holds
    the record's text, so that records can be counted by it.
    """

    place: str
    reason: str


def rejected(error: UserError, path: Path) -> Rejected:
    """What is set aside of `path`, a file or a folder of files, for an error in it."""
    if isinstance(error, RecordError):
        place = error.place if error.file == path else f"{error.file.name}, {error.place}"
        return Rejected(place, error.reason)
    return Rejected("the file", str(error).removeprefix(f"{path}: "))
