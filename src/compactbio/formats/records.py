"""Records without annotations, as citations for a corpus and as texts to annotate.

They are the objects of JSON lines, the rows of Parquet tables, the lines of plain text and, as texts, the citations of
PubMed.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio.documents import Citation, Document, Passage
from compactbio.errors import UserError
from compactbio.formats import fields, pubmed
from compactbio.formats.json_lines import document_of_line, json_object
from compactbio.formats.recognise import TEXTS
from compactbio.formats.streams import (
    RecordError,
    Rejected,
    SourceError,
    attempt,
    each_line,
    lines,
    named_errors,
    rejected,
)

_IDS = ("id", "pmid")
_ANNOTATIONS = {"spans", "relations", "questions", "passages"}
_BATCH = 1_000


@dataclass(frozen=True)
class Reading:
    """How texts are read.

    Args:
        field: the key or column that holds the text of JSON lines and tables; by default "text", or title and abstract.
        format: one of `recognise.TEXTS`; by default it is recognised. UserError for another one.
        passed_over: by absolute path of a PubMed XML file, a byte for each of its citations: 1 for one not to read.
    """

    field: str | None = None
    format: str | None = None
    passed_over: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in TEXTS:
            sentence = f"{self.format!r} is not a format of texts: take {', '.join(TEXTS)}."
            raise UserError(sentence, setting="input_format")


# Citations


def citations_of_lines(path: Path) -> Iterator[Citation]:
    """Give each line that is not blank as a citation's abstract.

    Raises SourceError for a NUL character, which text does not hold, and as `streams.lines` does.
    """
    for number, line in lines(path):
        if "\0" in line:
            raise SourceError(f"is not a text file: a NUL character in line {number}")
        yield Citation(pmid="", title="", abstract=fields.spaced(line))


def citations_of_objects(path: Path) -> Iterator[Citation | Rejected]:
    """Give each line's citation, or why it has none (keys: see `fields.citation`).

    Raises SourceError for bytes that are not UTF-8, and as `streams.each_line` does.
    """
    for line in each_line(path):
        if line.problem:
            raise line.problem
        value = json_object(line)
        yield value if isinstance(value, Rejected) else fields.citation(value, f"line {line.number}")


def citations_of_rows(path: Path) -> Iterator[Citation | Rejected]:
    """Give each row's citation, or why it has none (columns: see `fields.citation`), in bounded memory.

    Raises SourceError for a damaged file and for one without any of the columns title, abstract and text.
    """
    for place, row in _rows(path, fields.TEXT_KEYS, ("pmid",)):
        yield fields.citation(row, place)


def _rows(path: Path, wanted: Sequence[str], also: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row's place and its values in the columns `wanted`, of which one must be there, and `also`."""
    try:
        with pq.ParquetFile(path) as table:
            names = set(table.schema_arrow.names)
            if not names.intersection(wanted):
                listed = " or ".join(filter(None, (", ".join(wanted[:-1]), wanted[-1])))
                raise SourceError(f"has no column {listed}")
            columns = [name for name in (*also, *wanted) if name in names]
            number = 0
            for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except UnicodeDecodeError as error:
        raise SourceError(f"is not UTF-8: byte 0x{error.object[error.start]:02x} in a string column") from error
    except SourceError:
        raise
    # ValueError, OverflowError: a date or decimal that Python has no value for.
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(f"is damaged: {str(error).splitlines()[0]}") from error


# Texts


def texts_of_lines(path: Path, _: Reading) -> Iterator[Document | Rejected]:
    """Give each line that is not blank as a document."""
    with named_errors(path):
        for line in each_line(path):
            if line.problem:
                yield Rejected(f"line {line.number}", str(line.problem))
            elif "\0" in line.text:
                yield Rejected(f"line {line.number}", "a NUL character, which text does not hold")
            else:
                yield Document(f"{path.name}:{line.number}", line.text)


def texts_of_objects(path: Path, reading: Reading) -> Iterator[Document | Rejected]:
    """Give each line's text under the "id" or "pmid" of the object; a document of ours keeps its annotations."""
    with named_errors(path):
        for line in each_line(path):
            value = json_object(line)
            if isinstance(value, Rejected):
                yield value
            elif reading.field is None and {"id", "text"} <= value.keys() and value.keys() & _ANNOTATIONS:
                found = attempt(document_of_line, path, line)
                yield rejected(found, path) if isinstance(found, RecordError) else found
            else:
                yield _text_of(value, reading.field, f"line {line.number}", path)


def texts_of_rows(path: Path, reading: Reading) -> Iterator[Document | Rejected]:
    """Give each row's text under its "id" or "pmid"."""
    for place, row in _rows(path, [reading.field] if reading.field else fields.TEXT_KEYS, _IDS):
        yield _text_of(row, reading.field, place, path)


def texts_of_pubmed(path: Path, reading: Reading) -> Iterator[Document | Rejected]:
    """Give each citation's title and abstract as PubMed shows them, but for those that are passed over."""
    passed_over = reading.passed_over.get(str(path.absolute()), b"")
    place = 0
    for number, entry in enumerate(pubmed.read(path, labels=True), 1):
        if isinstance(entry, Rejected):
            yield entry
        elif isinstance(entry, Citation):
            if not passed_over[place : place + 1].strip(b"\0"):
                yield _document_of(entry, entry.pmid or f"{path.name}:{number}")
            place += 1


def _document_of(citation: Citation, name: str) -> Document:
    """A citation as a document, its title and abstract as passages."""
    text = citation.text
    title, abstract = len(citation.title), len(citation.abstract)
    passages = (Passage(0, title, "title"), Passage(len(text) - abstract, len(text), "abstract"))
    return Document(name, text, passages=tuple(passage for passage in passages if passage.start < passage.end))


def _text_of(value: Mapping[str, Any], field: str | None, place: str, path: Path) -> Document | Rejected:
    try:
        name = fields.identifier(value, _IDS) or f"{path.name}:{place.rpartition(' ')[2]}"
        key = field or "text"
        text = fields.string(value.get(key), key)
    except fields.BrokenFieldError as error:
        return Rejected(place, str(error))
    if field is None and ("text" not in value or value.get("abstract") is not None):
        found = fields.citation({**value, "pmid": None}, place)
        return found if isinstance(found, Rejected) else _document_of(found, name)
    return Document(name, text)
