"""Bytes and lines of a file, gzip or not, and what can be wrong with a source or with one record of it."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from compactbio.errors import UserError


class SourceError(UserError):
    """A file that cannot be used whole. The sentence is a predicate without the file's name: "is truncated"."""


class RecordError(UserError):
    """What is malformed in `file`: at `place`, for `reason`. Where a reader gives it in the place of a document, it can
    read on behind it."""

    def __init__(self, sentence: str, file: Path, place: str, reason: str) -> None:
        super().__init__(sentence)
        self.file, self.place, self.reason = file, place, reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used.

    `place` says where it stands ("line 7", "PMID 123"); `reason` is one of few sentences and never holds
    the record's text, so that records can be counted by it.
    """

    place: str
    reason: str


def rejected(error: UserError, path: Path) -> Rejected:
    """What is set aside of `path`, a file or a folder of files, for an error in it."""
    if isinstance(error, RecordError):
        place = error.place if error.file == path else f"{error.file.name}, {error.place}"
        return Rejected(place, error.reason)
    return Rejected("the file", str(error).removeprefix(f"{path}: "))


_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_BLOCK = 65_536


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading, unpacking gzip by its magic bytes whatever the name says.

    Raises SourceError for a file that is truncated, damaged or cannot be read, within the block too.
    """
    try:
        with io.BufferedReader(io.FileIO(path), _BLOCK) as raw:
            if raw.peek(2)[:2] == _GZIP:
                # GzipFile is no RawIOBase to the type checker, but has all that a buffer asks for.
                yield io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), _BLOCK)
            else:
                yield cast(io.BufferedReader, raw)
    except EOFError as error:
        raise SourceError("is truncated: the .gz ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"is damaged: {error}") from error
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from error


class Line(NamedTuple):
    """A line of a text file: its number from 1, its text without the line end, and what is wrong with its bytes."""

    number: int
    text: str
    problem: SourceError | None = None


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
    """Give the number (from 1) and the text of every line that is not blank, without its line end or a BOM.

    Raises SourceError for bytes that are not UTF-8, naming the first, and as `opened` does.
    """
    for line in each_line(path):
        if line.problem:
            raise line.problem
        yield line.number, line.text


def _raw_lines(stream: io.BufferedReader) -> Iterator[bytes]:
    start = stream.peek(_BLOCK)[:_BLOCK]
    if b"\r" not in start or b"\n" in start:
        yield from stream
        return
    rest = b""
    while block := stream.read(_BLOCK):
        *whole, rest = re.split(rb"(?<=[\r\n])", rest + block)
        yield from whole
    if rest:
        yield rest


def head(path: Path, size: int = _BLOCK) -> bytes:
    """The first bytes of a file, unpacked, without a BOM or leading blanks. Raises SourceError as `opened` does."""
    with opened(path) as stream:
        return stream.read(size).removeprefix(_BOM).lstrip()
