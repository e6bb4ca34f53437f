"""What is wrong with a value, or with a document in itself or for a format, and what readers left out of documents."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from compactbio.documents import Document
from compactbio.documents.words import has_surrogates
from compactbio.errors import UserError
from compactbio.formats.streams import RecordError

T = TypeVar("T")
# What a reader gives: a document, or what is malformed in its place.
Found = Document | RecordError

MISPLACED = "mentions whose text is not at their offsets"
_LOGGER = logging.getLogger("compactbio.formats")
_FLOAT = re.compile(r"^\s*([0-9]+)\.0\s*$")
# No offset has more digits, and Python refuses to convert thousands of them.
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
# No string of JSON holds a bare quote, so that what this finds is a key.
_NUMBER_ID = re.compile(r'("(?:id|pmid|identifier)"\s*:\s*)(-?[0-9]+)(?:\.0)?(?=\s*[,}\]])')
_LINE = re.compile(r" at line (\d+) column \d+$")


def number(text: str) -> int | None:
    """The integer that up to 18 digits, perhaps after a minus, stand for; None for anything else."""
    return int(text) if _NUMBER.fullmatch(text) else None


def validated(adapter: TypeAdapter[T], text: str, path: Path, line: int | None = None) -> T:
    """The value of JSON `text`, line `line` of a file or all of it; ids may be whole numbers. Raises UserError."""
    # pydantic is strict on strings, so ids that are whole numbers are made strings first.
    text = _NUMBER_ID.sub(r'\1"\2"', text.removeprefix("\ufeff"))
    try:
        return adapter.validate_json(text.encode("utf-8"), strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        at = _LINE.search(first["msg"])
        row = line or (int(at[1]) if at else 1)
        raise RecordError(path, row, f"it is not JSON ({_LINE.sub('', first['msg'])})")
    where = ".".join(str(part) for part in first["loc"]) or "the value"
    counted = ", counted from 0," if any(isinstance(part, int) for part in first["loc"]) else ""
    wrong = "is missing" if first["type"] == "missing" else f"is not as the format has it ({first['msg']})"
    reason = f"{where}{counted} {wrong}"
    if line:
        raise RecordError(path, line, reason)
    raise UserError(f"{path}: {reason}; fix it there.")


class BrokenFieldError(Exception):
    """The reason why a field's value, and so its record, cannot be used."""


def string(value: Any, key: str) -> str:
    """The string under a key, "" for None. Raises BrokenFieldError for anything else, and half a surrogate pair."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BrokenFieldError(f"{key} is not a string")
    if has_surrogates(value):
        raise BrokenFieldError(f"{key} holds half a surrogate pair")
    return value


def identifier(value: Any, key: str) -> str:
    """A string or an integer as a string; "" for None and NaN. Raises BrokenFieldError for anything else."""
    # A column of integers with gaps arrives as floating point, the gaps as NaN, or as the strings of these.
    if key == "pmid" and isinstance(value, str):
        return string("" if value == "nan" else _FLOAT.sub(r"\1", value), key)
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BrokenFieldError(f"{key} is not a string or an integer")
    return string(str(value), key)


class LeftOut(list[str]):
    """Sentences on the annotations that readers left out; `mentions` are the types of those mentions by document."""

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self.quiet = quiet
        self.mentions: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()


_LEFT_OUT: ContextVar[LeftOut | None] = ContextVar("left out", default=None)


def left_out(path: Path, document: str, count: int, what: str, types: Sequence[str] = ()) -> None:
    """Log how many of a document's annotations were left out; `types` are those of its mentions among them."""
    if not count:
        return
    found = _LEFT_OUT.get()
    if found is None or not found.quiet:
        _LOGGER.warning("%s: document %s: %d left out: %s", path, document, count, what)
    if found is not None:
        found.counts[what] += count
        unknown = [""] * count if what.startswith("mentions") else []
        found.mentions.setdefault(document, []).extend(types or unknown)


@contextmanager
def counting_left_out(where: str = "the data", *, quiet: bool = False) -> Iterator[LeftOut]:
    """Give a list that holds, after the block, a sentence on each kind of annotation that readers left out within;
    nothing is logged where it is `quiet`."""
    found = LeftOut(quiet)
    token = _LEFT_OUT.set(found)
    try:
        yield found
    finally:
        _LEFT_OUT.reset(token)
        found += [f"{count:,} annotations of {where} were left out: {what}." for what, count in found.counts.items()]


def inconsistency(document: Document) -> str | None:
    """What contradicts itself in a document: offsets outside its text, places of no mention, half characters."""
    if has_surrogates(document.text):
        return "its text holds half a surrogate pair"
    if any(map(has_surrogates, _names(document))):
        return "its id, or a type, identifier or question of it, holds half a surrogate pair"
    length = len(document.text)
    for span in document.spans:
        if span.score is not None and not 0 <= span.score <= 1:
            return f"a mention has the score {span.score:g}, which is not between 0 and 1"
        for start, end in ((span.start, span.end), *span.fragments):
            if not 0 <= start < end <= length:
                return f"a mention from {start} to {end} is not within its text of {length} characters"
        first, last = span.places[0][0], span.places[-1][1]
        if (first, last) != (span.start, span.end) or not fits(span.places, length):
            return f"the parts of a mention from {span.start} to {span.end} are not in order, from its start to its end"
    for relation in document.relations:
        for place in (relation.head, relation.tail):
            if isinstance(place, int) and not 0 <= place < len(document.spans):
                return f"a relation names mention {place} of {len(document.spans)}, counted from 0"
    return _passages_inconsistency(document)


def fits(places: Sequence[tuple[int, int]], length: int) -> bool:
    """Whether the (start, end) of a mention's parts, at least one, follow one another in a text of this length."""
    borders = [border for place in places for border in place]
    return borders == sorted(borders) and 0 <= borders[0] <= borders[-1] <= length and all(a < b for a, b in places)


def _passages_inconsistency(document: Document) -> str | None:
    text, end = document.text, 0
    for passage in document.passages:
        if not end <= passage.start <= passage.end <= len(text) or text[end : passage.start].strip(" "):
            return "its passages overlap, leave text out or are not within it"
        end = passage.end
    return "its passages leave text out" if document.passages and text[end:].strip(" ") else None


def _names(document: Document) -> Iterator[str]:
    """Every string of a document but its text."""
    yield document.id
    for span in document.spans:
        yield from (span.type, span.identifier)
    for relation in document.relations:
        yield relation.type
        yield from (end for end in (relation.head, relation.tail) if isinstance(end, str))
    for question in document.questions:
        yield from (question.text, question.id, question.kind)
        yield from (wording for wordings in question.answers for wording in wordings)


def not_writable(document: Document, format: str, reason: str) -> UserError:
    """The error for a document that cannot be written in a format."""
    return UserError(
        f"Document {document.id!r} cannot be written as {format}: {reason}; write jsonl, which can hold all of it."
    )


def check_only(document: Document, format: str, *allowed: str) -> None:
    """Raise UserError for a document that holds other things than those `allowed`, named as below."""
    held = {
        "mentions": document.spans,
        "mentions in several parts": [span for span in document.spans if span.fragments],
        "relations": document.relations,
        "questions": document.questions,
    }
    for name, present in held.items():
        if present and name not in allowed:
            raise not_writable(document, format, f"it has {name}")


def check_one_line(document: Document, format: str, *fields: str, tabs: bool = False) -> None:
    """Raise UserError for a field with a line break, or with a tab unless `tabs`."""
    for field in fields:
        if "\n" in field or "\r" in field or ("\t" in field and not tabs):
            raise not_writable(document, format, "it has a line break or tab where the format allows none")
