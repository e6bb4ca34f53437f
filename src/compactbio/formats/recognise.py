"""Which format a file of citations has, by its content and its name."""

import codecs
import json
import re
from pathlib import Path
from typing import Literal

from compactbio.formats.problems import SourceError
from compactbio.formats.streams import head

Kind = Literal["xml", "jsonl", "parquet", "text"]

_SUFFIXES: dict[str, Kind] = {
    ".xml": "xml",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}
# A folder's .json files are as often settings as records, so they count only where they are named.
_IN_FOLDERS = frozenset(_SUFFIXES) - {".json"}
_XML = re.compile(rb"<[?!A-Za-z]")
_UTF16_XML = ("<".encode("utf-16-le"), "<".encode("utf-16-be"))


def kind(path: str | Path) -> Kind:
    """The format of a file: magic bytes first, then the beginning of the text, then the name.

    Raises SourceError where name and content cannot both be right.
    """
    path = Path(path)
    named = _SUFFIXES.get(_suffix(path.name))
    start = head(path)
    if start.startswith(b"PAR1"):
        return "parquet"
    if named == "parquet":
        raise SourceError("is named .parquet and is no Parquet file")
    if _begins_xml(start):
        return "xml"
    if named == "xml":
        raise SourceError("is named .xml and holds no XML")
    if named == "jsonl" and start.startswith(b"["):
        raise SourceError("holds one JSON array; write one object a line")
    if named == "jsonl" or _is_object(start.split(b"\n", 1)[0]):
        return "jsonl"
    return "text"


def known_in_folder(name: str) -> bool:
    """Whether a folder's file of this name is taken as a source: a known extension, not hidden."""
    return _suffix(name) in _IN_FOLDERS and not name.startswith(".")


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


def _begins_xml(start: bytes) -> bool:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return start[2:4] in _UTF16_XML
    return _XML.match(start) is not None


def _is_object(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
