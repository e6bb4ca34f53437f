"""JSON lines of annotated documents, ours and those of words and tags on the Hugging Face hub, also in Parquet."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compactbio.documents import Document, Passage, Question, Relation, Span
from compactbio.documents.tags import is_tag
from compactbio.errors import UserError, validation_problem, without_content
from compactbio.files import read_json_or_none
from compactbio.formats import parquet
from compactbio.formats.checks import BrokenFieldError, Found, identifier, inconsistency, validated
from compactbio.formats.conll import tagged, unknown_tag
from compactbio.formats.streams import Line, RecordError, Rejected, attempt, content, each_line, head, named_errors


def json_object(line: Line) -> dict[str, Any] | Rejected:
    """The JSON object of a line, or why it has none."""
    place = f"line {line.number}"
    if line.problem:
        return Rejected(place, str(line.problem))
    try:
        value = json.loads(line.text, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError):
        return Rejected(place, "not JSON")
    except BrokenFieldError as error:
        return Rejected(place, str(error))
    except ValueError:
        return Rejected(place, "a number of thousands of digits")
    return value if isinstance(value, dict) else Rejected(place, "not a JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; of a key that is there twice, JSON would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BrokenFieldError("a key is there twice")
    return found


def documents_of_lines(path: Path, make: Callable[[Path, Line], Document]) -> Iterator[Found]:
    """Give `make(path, line)` for every line, or the RecordError that it raises."""
    with named_errors(path):
        for line in each_line(path):
            yield attempt(make, path, line)


def documents_of_values(
    path: Path,
    make: Callable[[Path, str, Any], Document],
    members: Callable[[Any], Iterable[Any]] = lambda value: (value,),
) -> Iterator[Found]:
    """Give `make(path, place, value)` for each of the `members` of a file's values.

    The values are the rows of a Parquet table, the objects of JSON lines or, where the first line holds none, those of
    the array, or the one value, that the whole file is. A RecordError replaces what cannot be read. Raises UserError
    for a file that is none of these.
    """
    for place, value in _values(path):
        if isinstance(value, RecordError):
            yield value
        else:
            yield from (attempt(_made, make, path, place, member) for member in members(value))


def _made(make: Callable[[Path, str, Any], Document], path: Path, place: str, value: Any) -> Document:
    try:
        return make(path, place, value)
    except BrokenFieldError as error:
        raise RecordError(path, place, str(error)) from None


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    with named_errors(path):
        if parquet.begins(head(path)):
            yield from parquet.rows(path)
            return
        stream = each_line(path)
        first = next(stream, None)
        if first and not isinstance(json_object(first._replace(problem=None)), Rejected):
            for line in chain((first,), stream):
                place, found = f"line {line.number}", json_object(line)
                yield place, RecordError(path, place, found.reason) if isinstance(found, Rejected) else found
            return
    text = content(path).removeprefix("\ufeff")
    try:
        whole = json.loads(text, object_pairs_hook=_once)
    except BrokenFieldError as error:
        raise UserError(f"{path}: {error}; keep one.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: it is not JSON, or is nested too deeply; fix it there.") from None
    for number, value in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield f"document {number}", value


_KEYS = [field.name for field in fields(Document)]
_LIST_KEYS = {
    name: [field.name for field in fields(kind)]
    for name, kind in (("spans", Span), ("relations", Relation), ("questions", Question), ("passages", Passage))
}
_DOCUMENT = TypeAdapter(Document)


def read_documents(path: Path) -> Iterator[Found]:
    """Give each line's document. Keys: those of `Document`, and of its lists' members; ids may be whole numbers.

    A line that is not such an object, has another key, or offsets or places that are outside, is given as a
    RecordError.
    """
    return documents_of_lines(path, document_of_line)


def document_of_line(path: Path, line: Line) -> Document:
    """The document of a line. Raises RecordError for a line that holds none."""
    line.check(path)
    document = validated(_DOCUMENT, line.text, path, line.number)
    value = json_object(line)
    if isinstance(value, Rejected):
        raise RecordError(path, line.number, value.reason)
    unknown = [key for key in value if key not in _KEYS]
    for name, keys in _LIST_KEYS.items():
        unknown += [f"{name}.{key}" for entry in value.get(name, ()) for key in entry if key not in keys]
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        raise RecordError(path, line.number, f"a document has no {names}", f"take {', '.join(_KEYS)}")
    if reason := inconsistency(document):
        raise RecordError(path, line.number, reason)
    return document


def document_of(value: dict[str, Any]) -> Document:
    """The document of an object that `serialise` wrote."""
    return _DOCUMENT.validate_python(value)


def validated_document(document: Document) -> tuple[Document, str]:
    """The document with fields of the right types, numbers of NumPy as Python's own; and what is wrong, "" for nothing.

    What is wrong is a field of another type, whose content is not repeated, or what `inconsistency` says.
    """
    try:
        found = _DOCUMENT.validate_python(asdict(document))
    except ValidationError as error:
        # `inconsistency` names half surrogate pairs.
        if error.errors()[0]["type"] != "string_unicode":
            return document, validation_problem(error, show=without_content)
        found = document
    return found, inconsistency(found) or ""


def serialise(document: Document) -> str:
    """A document's line, without the fields that have their default values."""
    return json.dumps(_object_of(document), ensure_ascii=False) + "\n"


def _object_of(value: Document | Span | Relation | Question | Passage) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        held = getattr(value, field.name)
        if field.default is MISSING or held != field.default:
            found[field.name] = [_object_of(member) for member in held] if field.name in _LIST_KEYS else held
    return found


TAGS = frozenset(("ner_tags", "tags", "labels", "ner_labels"))
_FEATURES = ("dataset_info.json", "dataset_infos.json", "features.json")


def read_tagged(path: Path) -> Iterator[Found]:
    """Give each line's sentence, or each of an array, as a tokenised document; the id is its "id", or its number.

    The tags are under one of `TAGS`, in a scheme that `conll.read` takes; a line without any has no mentions. A line
    of another layout, or with numbers that have no names, is given as a RecordError. Raises UserError for a file that
    is not JSON.
    """
    names = cache(partial(feature_names, path))
    return documents_of_values(path, lambda path, place, value: _tagged(path, place, value, names))


def _tagged(path: Path, place: str, value: Any, names: Callable[[str], Sequence[str] | None]) -> Document:
    if not isinstance(value, Mapping):
        raise RecordError(path, place, "not a JSON object")
    id_ = identifier(value.get("id"), "id")
    words: Any = value.get("tokens")
    key = next((key for key in sorted(TAGS, reverse=True) if key in value), "")
    if not _all(words, str) or any(not word or set(word) & set(" \n\r") for word in words):
        raise RecordError(path, place, "its tokens are not words: strings without blanks")
    tags = value[key] if key else ["O"] * len(words)
    if not isinstance(tags, list) or len(tags) != len(words):
        raise RecordError(path, place, "it has not one tag for each token")
    if tags and _all(tags, int):
        tags = named(path, place, key, tags, names(key))
    if not _all(tags, str):
        raise RecordError(path, place, "its tags are not strings or whole numbers")
    if wrong := next((tag for tag in tags if not is_tag(tag)), None):
        raise unknown_tag(path, place, wrong)
    return tagged(id_ or place.rpartition(" ")[2], words, tags)


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)


def named(path: Path, place: str, key: str, tags: Sequence[int], names: Sequence[str] | None) -> list[str]:
    """The names of numbers that stand under a key. Raises RecordError for a number that has none."""
    if names is None:
        fix = f"put the data set's {_FEATURES[0]}, which names them, beside the file, or write strings in their place"
        raise RecordError(path, place, f"{key} holds numbers without names", fix)
    if not all(0 <= tag < len(names) for tag in tags):
        raise RecordError(path, place, f"{key} holds a number beyond the {len(names)} names")
    return [names[tag] for tag in tags]


def feature_names(path: Path, key: str) -> Sequence[str] | None:
    """The names of the numbers under a key, by the description of the columns in a table, or beside the file.

    Raises UserError where the file beside it describes several configurations, which name them differently.
    """
    with named_errors(path):
        table = parquet.description(path) if parquet.begins(head(path)) else None
    if names := next(_names_below(table, key), None):
        return names
    for name in _FEATURES:
        found = list(_names_below(read_json_or_none(path.parent / name), key))
        if any(names != found[0] for names in found):
            where = f"{path.parent / name}: its configurations name {key} differently"
            raise UserError(f"{where}; keep that of {path.name} alone in it.")
        if found:
            return found[0]
    return None


def _names_below(value: Any, key: str) -> Iterator[Sequence[str]]:
    """The lists of names below a key."""
    if not isinstance(value, Mapping):
        return
    if key in value and (names := _list_of_names(value[key])):
        yield names
    for inner in value.values():
        yield from _names_below(inner, key)


def _list_of_names(value: Any) -> Sequence[str] | None:
    if _all(value, str):
        return list(value)
    if not isinstance(value, Mapping):
        return None
    keys = ("names", "feature", "class_label")
    return next((names for key in keys if (names := _list_of_names(value.get(key)))), None)
