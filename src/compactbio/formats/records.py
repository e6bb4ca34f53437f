"""JSON lines, Parquet rows and lines of text, as citations for a corpus and, as PubMed's, as texts to annotate."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.documents import Citation, Document, Passage
from compactbio.errors import UserError
from compactbio.formats import parquet, pubmed
from compactbio.formats.checks import BrokenFieldError, identifier, string
from compactbio.formats.file_names import shown
from compactbio.formats.json_lines import document_of_line, json_object
from compactbio.formats.recognise import TEXTS
from compactbio.formats.streams import RecordError, Rejected, SourceError, attempt, each_line, named_errors, rejected

_IDS = ("id", "pmid")
_TEXT_KEYS = ("title", "abstract", "text")
_ANNOTATIONS = {"spans", "relations", "questions", "passages"}


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


def citations_of_lines(path: Path) -> Iterator[Citation]:
    """Give each line that is not blank as a citation's abstract. Raises SourceError where one is not text."""
    for line in each_line(path):
        if line.problem:
            raise line.problem
        if "\0" in line.text:
            raise SourceError(f"is not a text file: a NUL character in line {line.number}")
        yield Citation(pmid="", title="", abstract=pubmed.spaced(line.text))


def citations_of_objects(path: Path) -> Iterator[Citation | Rejected]:
    """Give each line's citation, or why it has none. Raises SourceError for bytes that are not UTF-8."""
    for line in each_line(path):
        if line.problem:
            raise line.problem
        value = json_object(line)
        yield value if isinstance(value, Rejected) else _citation(value, f"line {line.number}")


def citations_of_rows(path: Path) -> Iterator[Citation | Rejected]:
    """Give each row's citation, or why it has none. Raises SourceError for a table that is damaged or has no text."""
    for place, row in _rows(path, _TEXT_KEYS, ("pmid",)):
        yield _citation(row, place)


def _citation(record: Mapping[str, Any], place: str) -> Citation | Rejected:
    """The citation that a JSON object or table row describes, or why it has none; None counts as empty."""
    if not any(key in record for key in _TEXT_KEYS):
        return Rejected(place, "no title, abstract or text")
    try:
        abstract = "abstract" if string(record.get("abstract"), "abstract").strip() else "text"
        return Citation(
            pmid=_pmid(record.get("pmid")),
            title=pubmed.title(string(record.get("title"), "title")),
            abstract=pubmed.spaced(string(record.get(abstract), abstract)),
        )
    except BrokenFieldError as error:
        return Rejected(place, str(error))


def _pmid(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise BrokenFieldError("pmid is not a positive number")
    found = identifier(value, "pmid").strip()
    if any(map(str.isspace, found)) or len(found) > 100:
        raise BrokenFieldError("pmid is not an identifier")
    return found.lstrip("0") if found.isascii() and found.isdigit() else found


def _rows(path: Path, wanted: Sequence[str], also: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row's place and its values in the columns `wanted`, of which one must be there, and `also`."""
    names = set(parquet.schema(path).names)
    if not names.intersection(wanted):
        listed = " or ".join(filter(None, (", ".join(wanted[:-1]), wanted[-1])))
        raise SourceError(f"has no column {listed}")
    return parquet.rows(path, [name for name in (*also, *wanted) if name in names])


def texts_of_lines(path: Path, _: Reading) -> Iterator[Document | Rejected]:
    """Give each line that is not blank as a document."""
    name = shown(path.name)
    with named_errors(path):
        for line in each_line(path):
            if line.problem:
                yield Rejected(f"line {line.number}", str(line.problem))
            elif "\0" in line.text:
                yield Rejected(f"line {line.number}", "a NUL character, which text does not hold")
            else:
                yield Document(f"{name}:{line.number}", line.text)


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
    """Give each row's text under its "id" or "pmid"; a document of ours keeps its annotations."""
    if reading.field is None and parquet.holds_documents(parquet.schema(path)):
        yield from (rejected(found, path) if isinstance(found, RecordError) else found for found in parquet.read(path))
        return
    for place, row in _rows(path, [reading.field] if reading.field else _TEXT_KEYS, _IDS):
        yield _text_of(row, reading.field, place, path)


def texts_of_pubmed(path: Path, reading: Reading) -> Iterator[Document | Rejected]:
    """Give each citation's title and abstract as PubMed shows them, except for those that are passed over."""
    passed_over = reading.passed_over.get(str(path.absolute()), b"")
    place = 0
    for number, entry in enumerate(pubmed.read(path, labels=True), 1):
        if isinstance(entry, Rejected):
            yield entry
        elif isinstance(entry, Citation):
            if not passed_over[place : place + 1].strip(b"\0"):
                yield _document_of(entry, entry.pmid or f"{shown(path.name)}:{number}")
            place += 1


def _document_of(citation: Citation, name: str) -> Document:
    """A citation as a document, its title and abstract as passages."""
    text = citation.text
    title, abstract = len(citation.title), len(citation.abstract)
    passages = (Passage(0, title, "title"), Passage(len(text) - abstract, len(text), "abstract"))
    return Document(name, text, passages=tuple(passage for passage in passages if passage.start < passage.end))


def _text_of(value: Mapping[str, Any], field: str | None, place: str, path: Path) -> Document | Rejected:
    try:
        names = (identifier(value.get(key), key) for key in _IDS)
        name = next(filter(None, names), f"{shown(path.name)}:{place.rpartition(' ')[2]}")
        key = field or "text"
        if field is not None and field not in value:
            return Rejected(place, f"no {field}")
        text = string(value.get(key), key)
    except BrokenFieldError as error:
        return Rejected(place, str(error))
    # A text of blanks is kept, unless there is a title or an abstract.
    if field is None and not text.strip() and (not text or value.get("title") or value.get("abstract")):
        found = _citation({**value, "pmid": None}, place)
        return found if isinstance(found, Rejected) else _document_of(found, name)
    return Document(name, text)
