"""Whatever holds texts, as documents one by one: citations, annotated documents, JSON lines and tables."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compactbio.documents import Citation, Document
from compactbio.errors import UserError
from compactbio.formats import annotated, jsonlines, tables
from compactbio.formats.citations import read_citations
from compactbio.formats.fields import TEXT_KEYS, citation
from compactbio.formats.problems import Rejected, SourceError
from compactbio.formats.recognise import kind
from compactbio.formats.signs import recognise
from compactbio.formats.streams import head, lines

_IDS = ("id", "pmid")


def read_texts(path: str | Path, field: str | None = None) -> Iterator[Document | Rejected]:
    """Give the texts of a file, or of a BRAT folder, in order, and what cannot be used; memory stays flat.

    PubMed XML and what else holds titles and abstracts: the title, a blank and the abstract, blanks collapsed. JSON
    lines and Parquet: the string of `field`, by default "text" where there is one, under the "id" or "pmid" of the
    record. PubTator, BioC, BRAT, token files: their text with the annotations that they hold. Other text: a document a
    line. A record without an id has the file's name, a colon and its number. Raises SourceError or UserError for a
    file that is not whole or malformed.
    """
    path = Path(path)
    if path.is_dir():
        return annotated.read(path, "brat")
    known = kind(path)
    if field is not None and known not in ("jsonl", "parquet"):
        raise UserError(f"{path}: --text-field is for JSON lines and Parquet; leave it out for this file.")
    match known:
        case "xml":
            return annotated.read(path, "bioc") if _is_bioc(path) else _citations(path)
        case "jsonl":
            return annotated.read(path, "jsonl") if field is None and _has_spans(path) else _objects(path, field)
        case "parquet":
            return _table(path, field)
        case "text":
            format = _format(path)
            return annotated.read(path, format) if format else _lines(path)


def _is_bioc(path: Path) -> bool:
    return b"<collection" in head(path)


def _has_spans(path: Path) -> bool:
    try:
        first = json.loads(next(lines(path))[1])
    except (StopIteration, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "spans" in first and "id" in first


def _format(path: Path) -> str | None:
    """The format of annotated documents that a text file is of, None where it is plain text."""
    try:
        return recognise(path)
    except SourceError:
        raise
    except UserError:
        return None


def _citations(path: Path) -> Iterator[Document | Rejected]:
    for number, entry in enumerate(read_citations(path, "xml"), 1):
        if isinstance(entry, Rejected):
            yield entry
        elif isinstance(entry, Citation):
            yield Document(entry.pmid or f"{path.name}:{number}", entry.text)


def _objects(path: Path, field: str | None) -> Iterator[Document | Rejected]:
    for place, value in jsonlines.objects(path):
        yield value if isinstance(value, Rejected) else _document(value, field, place, path)


def _table(path: Path, field: str | None) -> Iterator[Document | Rejected]:
    for place, row in tables.rows(path, [field] if field else TEXT_KEYS, _IDS):
        yield _document(row, field, place, path)


def _document(value: Mapping[str, Any], field: str | None, place: str, path: Path) -> Document | Rejected:
    unnamed = f"{path.name}:{place.rpartition(' ')[2]}"
    name = next((str(value[key]) for key in _IDS if value.get(key) not in (None, "")), unnamed)
    if field is None and ("text" not in value or value.get("abstract") is not None):
        found = citation({**value, "pmid": None}, place)
        return found if isinstance(found, Rejected) else Document(name, found.text)
    key = field or "text"
    if key not in value:
        return Rejected(place, f"no {key}")
    text = value[key]
    if not isinstance(text, str):
        return Rejected(place, f"{key} is not a string")
    if any("\ud800" <= letter <= "\udfff" for letter in text + name):
        return Rejected(place, f"{key} holds half a surrogate pair")
    return Document(name, text)


def _lines(path: Path) -> Iterator[Document]:
    for number, line in lines(path):
        yield Document(f"{path.name}:{number}", line)
