"""JSON lines of citations: one object a line, `{"pmid": ..., "title": ..., "abstract": ...}`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compactbio.documents import Citation
from compactbio.formats.fields import citation
from compactbio.formats.problems import Rejected
from compactbio.formats.streams import lines


def read(path: Path) -> Iterator[Citation | Rejected]:
    """Give each line's citation, or why it has none (keys: see `fields.citation`). Blank lines are passed over.

    Raises SourceError as `streams.lines` does.
    """
    for place, value in objects(path):
        yield value if isinstance(value, Rejected) else citation(value, place)


def objects(path: Path) -> Iterator[tuple[str, dict[str, Any] | Rejected]]:
    """Give each line's place and its object, or why it has none. Raises SourceError as `streams.lines` does."""
    for number, line in lines(path):
        place = f"line {number}"
        yield place, _object(line, place)


def _object(line: str, place: str) -> dict[str, Any] | Rejected:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return Rejected(place, "not JSON")
    except ValueError:
        return Rejected(place, "a number of thousands of digits")
    return value if isinstance(value, dict) else Rejected(place, "not a JSON object")
