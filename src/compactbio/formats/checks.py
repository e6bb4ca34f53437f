"""What is wrong with a file of annotated documents, or with a document for a format, as sentences."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeVar

from lxml.etree import XMLSyntaxError
from pydantic import TypeAdapter, ValidationError

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.formats.streams import Line, RecordError, SourceError, lines, opened

T = TypeVar("T")
P = ParamSpec("P")
# What a reader gives: a document, or what is malformed in its place.
Found = Document | RecordError

_WHOLE = "give a whole file in UTF-8"
_LOGGER = logging.getLogger("compactbio.formats")
# What lxml says of a second XML declaration, DOCTYPE or root element.
_SECOND_ROOT = ("XML declaration allowed only at the start", "Extra content at the end")
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
# No string of JSON holds a bare quote, so that what this finds is a key.
_NUMBER_ID = re.compile(r'("(?:id|pmid|identifier)"\s*:\s*)(-?[0-9]+)(?:\.0)?(?=\s*[,}\]])')
_LINE = re.compile(r" at line (\d+) column \d+$")
_SURROGATE = re.compile("[\ud800-\udfff]")


class LeftOut(list[str]):
    """Sentences on the annotations that readers left out; `mentions` are the types of those mentions by document."""

    def __init__(self) -> None:
        super().__init__()
        self.mentions: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()


_LEFT_OUT: ContextVar[LeftOut | None] = ContextVar("left out", default=None)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Name the file in what is wrong with it as a whole: a SourceError within the block becomes a RecordError."""
    try:
        yield
    except SourceError as error:
        raise RecordError(f"{path} {error}; {_WHOLE}.", path, "the file", str(error)) from error


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that `streams.lines` gives. Raises UserError for a damaged file."""
    with told(path):
        yield from lines(path)


def content(path: Path) -> str:
    """A file's whole text, its line ends and a BOM as they stand. Raises UserError for a damaged file."""
    with told(path), opened(path) as stream:
        try:
            return stream.read().decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = error.object[error.start]
            raise SourceError(f"is not UTF-8: byte 0x{wrong:02x} at offset {error.start}") from error


def broken(path: Path, line: int, reason: str, mend: str, *, unquoted: str = "") -> RecordError:
    """The error for a line that cannot be read; `unquoted` is the reason without text of the file, where it has any."""
    return broken_at(path, f"line {line}", reason, mend, unquoted=unquoted)


def broken_at(path: Path, place: str, reason: str, mend: str, *, unquoted: str = "") -> RecordError:
    """The same for another place than a line."""
    return RecordError(f"{path}, {place}: {reason}; {mend}.", path, place, unquoted or reason)


def undecoded(path: Path, line: Line) -> RecordError:
    """The error for a line whose bytes are not UTF-8."""
    return RecordError(f"{path} {line.problem}; {_WHOLE}.", path, f"line {line.number}", str(line.problem))


def attempted(make: Callable[P, Document], *given: P.args, **named: P.kwargs) -> Found:
    """The document that a function makes, or the RecordError that it raises."""
    try:
        return make(*given, **named)
    except RecordError as error:
        return error


def number(text: str) -> int | None:
    """The integer that up to 18 digits, perhaps after a minus, stand for; None for whatever else.

    No offset has more, and Python refuses to convert thousands of digits.
    """
    return int(text) if _NUMBER.fullmatch(text) else None


def validated(adapter: TypeAdapter[T], text: str, path: Path, line: int | None = None) -> T:
    """The value of JSON `text`, which is line `line` of a file or all of it. Raises UserError for what does not fit."""
    try:
        return adapter.validate_json(text.encode("utf-8"), strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        at = _LINE.search(first["msg"])
        row = line or (int(at[1]) if at else 1)
        raise broken(path, row, f"it is not JSON ({_LINE.sub('', first['msg'])})", "mend it there")
    where = ".".join(str(part) for part in first["loc"]) or "the value"
    reason = f"{where}, counted from 0, is not as the format has it ({first['msg']})"
    if line:
        raise broken(path, line, reason, "mend it there")
    raise UserError(f"{path}: {reason}; mend it there.")


def malformed(error: XMLSyntaxError) -> str:
    """Why XML cannot be read, as a predicate, with the way to fix it."""
    if any(sign in (error.msg or "") for sign in _SECOND_ROOT):
        return (
            "has an XML declaration or a root after the first one, as several answers of efetch saved into one file "
            "have; save each answer to a file of its own"
        )
    return f"is malformed XML ({error.msg}); fix it there or fetch the file again"


def with_string_ids(text: str) -> str:
    """JSON with the whole numbers that its objects have under "id", "pmid" or "identifier" as strings."""
    return _NUMBER_ID.sub(r'\1"\2"', text)


def left_out(path: Path, document: str, count: int, what: str, types: Sequence[str] = ()) -> None:
    """Tell the log how many of a document's annotations were left out, without its text.

    `types` are those of left out mentions, which count as wrong where they are predictions; by default without any.
    """
    if not count:
        return
    _LOGGER.warning("%s: document %s: %d left out: %s", path, document, count, what)
    if (found := _LEFT_OUT.get()) is not None:
        found.counts[what] += count
        unknown = [""] * count if what.startswith("mentions") else []
        found.mentions.setdefault(document, []).extend(types or unknown)


@contextmanager
def counting_left_out(where: str = "the data") -> Iterator[LeftOut]:
    """Gives what, after the block, holds a sentence on each kind of annotations that readers left out within it."""
    found = LeftOut()
    token = _LEFT_OUT.set(found)
    try:
        yield found
    finally:
        _LEFT_OUT.reset(token)
        found += [f"{count:,} annotations of {where} were left out: {what}." for what, count in found.counts.items()]


def fault(document: Document) -> str | None:
    """What contradicts itself in a document: offsets outside its text, places of no mention, half characters."""
    if _SURROGATE.search(document.text):
        return "its text holds half a surrogate pair"
    if any(map(_SURROGATE.search, _names(document))):
        return "its id, or a type, identifier or question of it, holds half a surrogate pair"
    for span in document.spans:
        if span.score is not None and not 0 <= span.score <= 1:
            return f"a mention has the score {span.score:g}, which does not lie between 0 and 1"
        for start, end in ((span.start, span.end), *span.fragments):
            if not 0 <= start < end <= len(document.text):
                return f"a mention from {start} to {end} does not lie in its text of {len(document.text)} characters"
    for relation in document.relations:
        for place in (relation.head, relation.tail):
            if isinstance(place, int) and not 0 <= place < len(document.spans):
                return f"a relation names mention {place} of {len(document.spans)}, counted from 0"
    end = 0
    for passage in document.passages:
        if not end <= passage.start <= passage.end <= len(document.text) or document.text[end : passage.start].strip(
            " "
        ):
            return "its passages overlap, leave text out or do not lie in it"
        end = passage.end
    if document.passages and document.text[end:].strip(" "):
        return "its passages leave text out"
    return None


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


def unsayable(document: Document, format: str, reason: str) -> UserError:
    """The error for a document that a format has no words for."""
    return UserError(
        f"Document {document.id!r} cannot be written as {format}: {reason}; write jsonl, which can say all of it."
    )


def only(document: Document, format: str, *sayable: str) -> None:
    """Raise UserError for a document that has other parts than the `sayable`.

    Parts: "mentions", "mentions in several parts", "relations", "questions".
    """
    parts = {
        "mentions": document.spans,
        "mentions in several parts": [span for span in document.spans if span.fragments],
        "relations": document.relations,
        "questions": document.questions,
    }
    for part, present in parts.items():
        if present and part not in sayable:
            raise unsayable(document, format, f"it has {part}")


def on_one_line(document: Document, format: str, *fields: str, tabs: bool = False) -> None:
    """Raise UserError for a field with a line break, or with a tab unless `tabs`."""
    for field in fields:
        if "\n" in field or "\r" in field or ("\t" in field and not tabs):
            raise unsayable(document, format, "it has a line break or tab where the format allows none")
