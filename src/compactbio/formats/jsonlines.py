"""JSON lines of citations: one object a line, `{"pmid": ..., "title": ..., "abstract": ...}`."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from compactbio.documents import Citation
from compactbio.errors import UserError
from compactbio.formats.faults import broken_at, content, told
from compactbio.formats.fields import citation
from compactbio.formats.problems import Rejected
from compactbio.formats.streams import each_line, lines


def read(path: Path) -> Iterator[Citation | Rejected]:
    """Give each line's citation, or why it has none (keys: see `fields.citation`). Blank lines are passed over.

    Raises SourceError as `streams.lines` does.
    """
    for number, line in lines(path):
        place, value = object_of(number, line)
        yield value if isinstance(value, Rejected) else citation(value, place)


def object_of(number: int, line: str) -> tuple[str, dict[str, Any] | Rejected]:
    """A line's place and its object, or why it has none."""
    place = f"line {number}"
    return place, _object(line, place)


def values(path: Path) -> Iterator[tuple[str, Any]]:
    """Give the objects of a file's lines with their places or, where its first line holds none, those of the array, or
    the one value, that the whole file is.

    A RecordError stands for a line that holds none. Raises UserError for a file that is not JSON.
    """
    with told(path):
        stream = each_line(path)
        first = next(stream, None)
        if first and isinstance(object_of(first.number, first.text)[1], dict):
            for line in chain((first,), stream):
                place, value = object_of(line.number, line.text)
                reason = str(line.problem or "") or (value.reason if isinstance(value, Rejected) else "")
                yield place, broken_at(path, place, reason, "fix it there") if reason else value
            return
    try:
        whole = json.loads(content(path).removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise UserError(f"{path}: it is not JSON, or is nested too deeply; fix it there.") from None
    for number, value in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield f"document {number}", value


def _object(line: str, place: str) -> dict[str, Any] | Rejected:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return Rejected(place, "not JSON")
    except ValueError:
        return Rejected(place, "a number of thousands of digits")
    return value if isinstance(value, dict) else Rejected(place, "not a JSON object")
