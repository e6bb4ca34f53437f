"""What can be wrong with a source: with one record of it, or with the whole file."""

from dataclasses import dataclass

from compactbio.errors import UserError


class SourceError(UserError):
    """A file that cannot be used whole. The sentence is a predicate without the file's name: "is truncated"."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used.

    `place` says where it stands ("line 7", "PMID 123"); `reason` is one of few sentences and never holds
    the record's text, so that records can be counted by it.
    """

    place: str
    reason: str
