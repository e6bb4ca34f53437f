"""Documents as JSON lines: one object a document, with the fields' names as keys and defaults left out."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compactbio.documents import Document, Passage, Question, Relation, Span
from compactbio.formats.faults import Found, attempted, broken, fault, told, undecoded, validated, with_string_ids
from compactbio.formats.streams import Line, each_line

_KEYS = [field.name for field in fields(Document)]
_PART_KEYS = {
    "spans": [field.name for field in fields(Span)],
    "relations": [field.name for field in fields(Relation)],
    "questions": [field.name for field in fields(Question)],
    "passages": [field.name for field in fields(Passage)],
}
_DOCUMENT = TypeAdapter(Document)


def read(path: Path) -> Iterator[Found]:
    """Give each line's document. Keys: those of `Document`, and of its parts in their lists; ids may be whole numbers.

    A line that is no such object, has another key, or offsets or places that lie outside, gives the error in its place.
    """
    with told(path):
        for line in each_line(path):
            yield attempted(document_in, path, line)


def document_in(path: Path, line: Line) -> Document:
    """The document of a line. Raises RecordError for a line that holds none."""
    if line.problem:
        raise undecoded(path, line)
    document = validated(_DOCUMENT, with_string_ids(line.text), path, line.number)
    if unknown := _unknown_keys(json.loads(line.text)):
        raise broken(path, line.number, f"a document has no {unknown}", f"take {', '.join(_KEYS)}")
    if reason := fault(document):
        raise broken(path, line.number, reason, "mend it there")
    return document


def document_of(value: dict[str, Any]) -> Document:
    """The document that an object of our own, which `said` wrote, stands for."""
    return _DOCUMENT.validate_python(value)


def said(document: Document) -> str:
    """A document's line."""
    return json.dumps(_object(document), ensure_ascii=False) + "\n"


def _unknown_keys(value: dict[str, Any]) -> str:
    found = [key for key in value if key not in _KEYS]
    for part, keys in _PART_KEYS.items():
        found += [f"{part}.{key}" for entry in value.get(part, ()) for key in entry if key not in keys]
    return ", ".join(dict.fromkeys(found))


def _object(value: Document | Span | Relation | Question | Passage) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if field.default is MISSING or content != field.default:
            found[field.name] = [_object(one) for one in content] if field.name in _PART_KEYS else content
    return found
