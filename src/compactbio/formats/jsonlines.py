"""JSON lines of citations: one object a line, `{"pmid": ..., "title": ..., "abstract": ...}`."""

import json
from collections.abc import Iterator
from pathlib import Path

from compactbio.documents import Citation
from compactbio.formats.fields import citation
from compactbio.formats.problems import Rejected
from compactbio.formats.streams import lines


def read(path: Path) -> Iterator[Citation | Rejected]:
    """Give each line's citation, or why it has none (keys: see `fields.citation`). Blank lines are passed over.

    Raises SourceError as `streams.lines` does.
    """
    for number, line in lines(path):
        yield _record(line, f"line {number}")


def _record(line: str, place: str) -> Citation | Rejected:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Rejected(place, "not JSON")
    if not isinstance(value, dict):
        return Rejected(place, "not a JSON object")
    return citation(value, place)
