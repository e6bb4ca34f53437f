"""Plain text: one document a line, without PMID or title."""

from collections.abc import Iterator
from pathlib import Path

from compactbio.documents import Citation
from compactbio.formats.fields import spaced
from compactbio.formats.problems import SourceError
from compactbio.formats.streams import lines


def read(path: Path) -> Iterator[Citation]:
    """Give each line that is not blank as a citation's abstract.

    Raises SourceError for a NUL character, which no text holds, and as `streams.lines` does.
    """
    for number, line in lines(path):
        if "\0" in line:
            raise SourceError(f"is not a text file: a NUL character in line {number}")
        yield Citation(pmid="", title="", abstract=spaced(line))
