"""JSON lines: of citations, of annotated documents, and of words and tags as on the Hugging Face hub."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compactbio.documents import Citation, Document, Passage, Question, Relation, Span
from compactbio.errors import UserError
from compactbio.formats.checks import (
    Found,
    attempted,
    broken,
    broken_at,
    content,
    fault,
    told,
    undecoded,
    validated,
    with_string_ids,
)
from compactbio.formats.conll import is_tag, tagged, unknown_tag
from compactbio.formats.fields import citation, name
from compactbio.formats.streams import Line, RecordError, Rejected, each_line, lines


def read_citations(path: Path) -> Iterator[Citation | Rejected]:
    """Give each line's citation, or why it has none (keys: see `fields.citation`). Blank lines are passed over.

    Raises SourceError as `streams.lines` does.
    """
    for number, line in lines(path):
        place, value = object_of(number, line)
        yield value if isinstance(value, Rejected) else citation(value, place)


def object_of(number: int, line: str) -> tuple[str, dict[str, Any] | Rejected]:
    """A line's place and its object, or why it has none."""
    place = f"line {number}"
    return place, _citation_object(line, place)


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


def _citation_object(line: str, place: str) -> dict[str, Any] | Rejected:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return Rejected(place, "not JSON")
    except ValueError:
        return Rejected(place, "a number of thousands of digits")
    return value if isinstance(value, dict) else Rejected(place, "not a JSON object")


_KEYS = [field.name for field in fields(Document)]
_PART_KEYS = {
    "spans": [field.name for field in fields(Span)],
    "relations": [field.name for field in fields(Relation)],
    "questions": [field.name for field in fields(Question)],
    "passages": [field.name for field in fields(Passage)],
}
_DOCUMENT = TypeAdapter(Document)


def read_documents(path: Path) -> Iterator[Found]:
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
    return json.dumps(_document_object(document), ensure_ascii=False) + "\n"


def _unknown_keys(value: dict[str, Any]) -> str:
    found = [key for key in value if key not in _KEYS]
    for part, keys in _PART_KEYS.items():
        found += [f"{part}.{key}" for entry in value.get(part, ()) for key in entry if key not in keys]
    return ", ".join(dict.fromkeys(found))


def _document_object(value: Document | Span | Relation | Question | Passage) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if field.default is MISSING or content != field.default:
            found[field.name] = [_document_object(one) for one in content] if field.name in _PART_KEYS else content
    return found


TAGS = frozenset(("ner_tags", "tags", "labels", "ner_labels"))
_FEATURES = ("dataset_info.json", "dataset_infos.json", "features.json")


def read_tagged(path: Path) -> Iterator[Found]:
    """Give each line's sentence, or each of an array, as a tokenised document; the id is its "id", or its number.

    The tags are under one of `TAGS`, in a scheme that `conll.read` takes; a line without any has no mentions. A line
    that is of another layout, or has numbers for which there is no name, is given as a RecordError. Raises UserError
    for what is not JSON.
    """
    names: dict[str, Sequence[str] | None] = {}
    for place, value in values(path):
        yield value if isinstance(value, RecordError) else attempted(_document, path, place, value, names)


def _document(path: Path, place: str, value: Any, names: dict[str, Sequence[str] | None]) -> Document:
    found = name(value, ("id",), place) if isinstance(value, Mapping) else Rejected(place, "not a JSON object")
    if isinstance(found, Rejected):
        raise broken_at(path, place, found.reason, "fix it there")
    words: Any = value.get("tokens")
    key = next((key for key in sorted(TAGS, reverse=True) if key in value), "")
    if not _all(words, str) or any(not word or set(word) & set(" \n\r") for word in words):
        raise broken_at(path, place, "its tokens are not words: strings without blanks", "fix it there")
    tags = value[key] if key else ["O"] * len(words)
    if not isinstance(tags, list) or len(tags) != len(words):
        raise broken_at(path, place, "it has not one tag for each token", "fix it there")
    if tags and _all(tags, int):
        if key not in names:
            names[key] = _names(path.parent, key)
        tags = _named(path, place, key, tags, names[key])
    if not _all(tags, str):
        raise broken_at(path, place, "its tags are not strings or whole numbers", "fix it there")
    if wrong := next((tag for tag in tags if not is_tag(tag)), None):
        raise unknown_tag(path, place, wrong)
    return tagged(found or place.rpartition(" ")[2], words, tags)


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(one, kind) and not isinstance(one, bool) for one in values)


def _named(path: Path, place: str, key: str, tags: Sequence[int], names: Sequence[str] | None) -> list[str]:
    if names is None:
        mend = f"put the data set's {_FEATURES[0]}, which names them, beside the file, or write the tags as strings"
        raise broken_at(path, place, f"its {key} are numbers without names", mend)
    if not all(0 <= tag < len(names) for tag in tags):
        raise broken_at(path, place, f"one of its {key} is a number beyond the {len(names)} names", "fix it there")
    return [names[tag] for tag in tags]


def _names(folder: Path, key: str) -> Sequence[str] | None:
    """The names of the tags under a key, by the features in the folder."""
    for name_ in _FEATURES:
        try:
            value = json.loads((folder / name_).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if names := _found(value, key):
            return names
    return None


def _found(value: Any, key: str) -> Sequence[str] | None:
    """The first list of names below a key."""
    if not isinstance(value, Mapping):
        return None
    if key in value and (names := _list(value[key])):
        return names
    return next((names for one in value.values() if (names := _found(one, key))), None)


def _list(value: Any) -> Sequence[str] | None:
    if _all(value, str):
        return list(value)
    if not isinstance(value, Mapping):
        return None
    return next((names for one in ("names", "feature", "class_label") if (names := _list(value.get(one)))), None)
