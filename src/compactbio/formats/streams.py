"""Bytes and lines of a file, gzip or not, with every way of being damaged told as a `SourceError`."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from compactbio.formats.problems import SourceError

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacking gzip by its magic bytes whatever the name says.

    Raises SourceError for a file that is truncated, damaged or cannot be read, within the block too.
    """
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] == _GZIP:
                yield cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw)))
            else:
                yield raw
    except EOFError as error:
        raise SourceError("is truncated: the .gz ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"is damaged: {error}") from error
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the number (from 1) and the text of every line that is not blank, without its line end or a BOM.

    Raises SourceError for bytes that are not UTF-8, naming the first, and as `opened` does.
    """
    offset = 0
    with opened(path) as stream:
        for number, raw in enumerate(stream, 1):
            body = raw.removeprefix(_BOM) if number == 1 else raw
            try:
                line = body.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                at = offset + len(raw) - len(body) + error.start
                wrong = body[error.start]
                raise SourceError(f"is not UTF-8: byte 0x{wrong:02x} at offset {at}, line {number}") from error
            offset += len(raw)
            if line and not line.isspace():
                yield number, line


def head(path: Path, size: int = 65_536) -> bytes:
    """The first bytes of a file, unpacked, without a BOM or leading blanks. Raises SourceError as `opened` does."""
    with opened(path) as stream:
        return stream.read(size).removeprefix(_BOM).lstrip()
