"""Bytes, lines and XML elements of a file, gzip or not, and the errors for what is wrong with a file or a record."""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from lxml import etree

from compactbio.errors import UserError
from compactbio.formats.file_names import shown

T = TypeVar("T")
P = ParamSpec("P")


class SourceError(UserError):
    """A file that cannot be used whole.

    The sentence is a predicate without the file's name: "is truncated"; `fix`, where given, says what to do.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}; {fix}" if fix else problem)
        self.fix = fix


class NotLinesError(SourceError):
    """A file of JSON that is not one object per line."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, "write one object per line")


WHOLE_FILE = "the file"


class RecordError(UserError):
    """A record of a file that cannot be used; a reader may yield it in the place of the document and read on.

    `place` is a line's number or "document 7"; `reason` has no text of the file, `shown` is it with text for the error.
    """

    def __init__(
        self, file: Path, place: str | int, reason: str, fix: str = "fix it there", *, shown: str = ""
    ) -> None:
        self.file, self.reason = file, reason
        self.place = f"line {place}" if isinstance(place, int) else place
        where = f"{file}" if place == WHOLE_FILE else f"{file}, {self.place}"
        super().__init__(f"{where}: {shown or reason}; {fix}.")


class UnreadableError(RecordError):
    """Bytes that are damaged or not UTF-8: those of a whole file, or of one line."""

    def __init__(self, file: Path, problem: SourceError, line: int | None = None) -> None:
        super().__init__(file, WHOLE_FILE if line is None else line, str(problem))
        self.args = (f"{file} {problem}." if problem.fix else f"{file} {problem}; give a whole file in UTF-8.",)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used.

    `place` says where it is ("line 7", "PMID 123"); `reason` is one of few sentences and never holds the record's text,
    so that records can be counted by it.
    """

    place: str
    reason: str


def rejected(error: UserError, path: Path) -> Rejected:
    """What is set aside of `path`, a file or a folder of files, for an error in it."""
    if isinstance(error, RecordError):
        place = error.place if error.file == path else f"{shown(error.file.name)}, {error.place}"
        return Rejected(place, error.reason)
    return Rejected(WHOLE_FILE, str(error).removeprefix(f"{path}: "))


def attempt(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | RecordError:
    """What a function makes, or the RecordError that it raises."""
    try:
        return make(*args, **kwargs)
    except RecordError as error:
        return error


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Add the file's name to what is wrong with it as a whole: a SourceError within becomes an UnreadableError."""
    try:
        yield
    except SourceError as error:
        raise UnreadableError(path, error) from error


GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
BLOCK = 65_536  # bytes
_SAMPLE = 16 << 20  # bytes
_UNPACKED = "unpack it, or pack it with gzip"
# What no reader reads, by its first bytes; in many of these some lines would pass for text.
_FOREIGN = {
    rb"\s*PMID- ?\d": ("is in PubMed's format of labelled lines", "fetch it as XML (efetch -db pubmed -format xml)"),
    rb"%PDF-": ("is a PDF", "give its text"),
    rb"\{\\rtf": ("is an RTF document", "give its text"),
    rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("is an old Office document", "give its text"),
    rb"ARROW1\0\0|\xff\xff\xff\xff": ("is an Arrow file", "write it as Parquet (to_parquet of the datasets library)"),
    rb"PK\x03\x04": ("is a ZIP archive or an Office document", "unpack it, or give its text"),
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*": ("is an image", "give its text"),
    rb"\xfd7zXZ\0": ("is packed with xz", _UNPACKED),
    rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)": ("is packed with bzip2", _UNPACKED),
    rb"\x28\xb5\x2f\xfd": ("is packed with zstd", _UNPACKED),
    rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|.{257}ustar(?:\0|  \0)": ("is an archive", "unpack it"),
}
_LONGEST = 265  # bytes


class _Unpacked(gzip.GzipFile):
    """Gives what it has unpacked before it fails over what follows; GzipFile would lose up to a block of it."""

    def readinto(self, buffer: Any) -> int:
        return self.readinto1(buffer)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading, unpacking gzip by its magic bytes whatever the name says.

    Raises SourceError for a file that is truncated, damaged or cannot be read, within the block too, and for one that
    begins as an archive, an image or a document of another program does.
    """
    try:
        with io.BufferedReader(io.FileIO(path), BLOCK) as raw:
            stream = cast(io.BufferedReader, raw)
            if raw.peek(2)[:2] == GZIP:
                # GzipFile is not a RawIOBase to the type checker, but has all that a buffer needs.
                stream = io.BufferedReader(cast(io.RawIOBase, _Unpacked(fileobj=raw)), BLOCK)
            _check_readable(stream.peek(_LONGEST))
            yield stream
    except EOFError as error:
        raise SourceError("is truncated: the .gz ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"is damaged: {error}") from error
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from error


def _check_readable(start: bytes) -> None:
    for magic, (problem, fix) in _FOREIGN.items():
        if re.match(magic, start, re.DOTALL):
            raise SourceError(problem, fix)


def marks_per_byte(path: Path, mark: bytes) -> float:
    """How often `mark` is in the beginning of a file, unpacked and without CR, per byte of the beginning on the disk.

    Raises SourceError as `opened` does.
    """
    with opened(path) as stream:
        start = stream.read(_SAMPLE)
        packed = getattr(stream.raw, "fileobj", stream).tell() if stream.peek(1) else path.stat().st_size
    return start.replace(b"\r", b"").count(mark) / max(1, packed)


class Line(NamedTuple):
    """A line of a text file: its number from 1, its text without the line end, and what is wrong with its bytes."""

    number: int
    text: str
    problem: SourceError | None = None

    def check(self, path: Path) -> None:
        """Raise UnreadableError where the line's bytes are not UTF-8."""
        if self.problem:
            raise UnreadableError(path, self.problem, self.number)


def each_line(path: Path) -> Iterator[Line]:
    """Give every line that is not blank, without a BOM; one that is not UTF-8 has a problem, and U+FFFD for its bytes.

    Lines end with LF or CR LF; in a file whose beginning has none of these, with CR alone. Raises SourceError as
    `opened` does.
    """
    offset = 0
    with opened(path) as stream:
        for number, raw in enumerate(_raw_lines(stream), 1):
            body = raw.removeprefix(_BOM) if number == 1 else raw
            problem = None
            try:
                text = body.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                at = offset + len(raw) - len(body) + error.start
                problem = SourceError(f"is not UTF-8: byte 0x{body[error.start]:02x} at offset {at}, line {number}")
                text = body.decode("utf-8", errors="replace").rstrip("\r\n")
            offset += len(raw)
            if text and not text.isspace():
                yield Line(number, text, problem)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give number and text of the lines of `each_line`. Raises SourceError for the first that is not UTF-8."""
    for line in each_line(path):
        if line.problem:
            raise line.problem
        yield line.number, line.text


def _raw_lines(stream: io.BufferedReader) -> Iterator[bytes]:
    start = stream.peek(BLOCK)[:BLOCK]
    if b"\r" not in start or b"\n" in start:
        yield from stream
        return
    rest = b""
    while block := stream.read(BLOCK):
        *whole, rest = re.split(rb"(?<=[\r\n])", rest + block)
        yield from whole
    if rest:
        yield rest


def head(path: Path) -> bytes:
    """The first block of a file, unpacked, without a BOM or leading blanks; less where it is damaged behind its start.

    Raises SourceError as `opened` does.
    """
    start = b""
    with opened(path) as stream:
        try:
            while len(start) < BLOCK and (more := stream.read1(BLOCK - len(start))):
                start += more
        except (EOFError, gzip.BadGzipFile, zlib.error):
            if not start:
                raise
    return start.removeprefix(_BOM).lstrip()


def content(path: Path) -> str:
    """A file's whole text, with its BOM and line ends as they are. Raises UserError for a damaged file."""
    with named_errors(path), opened(path) as stream:
        try:
            return stream.read().decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = error.object[error.start]
            raise SourceError(f"is not UTF-8: byte 0x{wrong:02x} at offset {error.start}") from error


def elements(path: Path, tags: Sequence[str], kind: str, roots: Sequence[str] = ()) -> Iterator[Any]:
    """Give each XML element with one of `tags`, which is freed after its use; memory does not grow with the file.

    No entity is resolved and nothing is fetched. Raises SourceError for XML that is malformed or declares an entity,
    and, where `roots` are given, for another root than these; `kind` names the format in the sentences.
    """
    try:
        with opened(path) as stream:
            _, root = next(etree.iterparse(stream, events=("start",), **_SAFE))
            _check_root(root, kind, roots)
        with opened(path) as stream:
            for _, element in etree.iterparse(stream, events=("end",), tag=tags, **_SAFE):
                yield element
                _forget(element)
    except etree.XMLSyntaxError as error:
        if any(words in (error.msg or "") for words in _SECOND_ROOT):
            why = "has an XML declaration or a root after the first one, as several answers of efetch in one file have"
            raise SourceError(why, "save each answer to a file of its own") from error
        raise SourceError(f"is malformed XML ({error.msg})", "fix it there or fetch the file again") from error


_SAFE: Any = {
    "resolve_entities": False, "no_network": True, "load_dtd": False, "remove_comments": True, "remove_pis": True,
}  # fmt: skip
# What lxml says of a second XML declaration, DOCTYPE or root element.
_SECOND_ROOT = ("XML declaration allowed only at the start", "Extra content at the end")


def _check_root(root: Any, kind: str, roots: Sequence[str]) -> None:
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and next(dtd.iterentities(), None) is not None:
        raise SourceError(f"declares entities, which {kind} never does", "write their text in their place")
    if roots and root.tag not in roots:
        known = " or ".join(f"<{name}>" for name in roots)
        raise SourceError(f"is not {kind} XML: its root is <{root.tag}>, not {known}")


def _forget(element: Any) -> None:
    """Free a record, and all that precedes it below the root."""
    element.clear()
    root = element.getroottree().getroot()
    top = element
    while (parent := top.getparent()) is not None and parent is not root:
        top = parent
    while top.getprevious() is not None:
        del root[0]
