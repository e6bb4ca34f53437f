"""Whatever holds texts, as documents one by one: citations, annotated documents, JSON lines and tables."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.documents import Citation, Document, Passage
from compactbio.errors import UserError
from compactbio.formats import annotated, brat, citations, fields, json_lines, pubmed
from compactbio.formats.checks import told
from compactbio.formats.json_lines import document_in
from compactbio.formats.recognise import TEXTS, recognise_texts
from compactbio.formats.sources import KINDS, Sources, is_documentation, kind_of, named, ordered, search, visible
from compactbio.formats.streams import Line, RecordError, Rejected, each_line, rejected

_IDS = ("id", "pmid")
_KNOWN = (*KINDS, ".pubtator", ".conll", ".json", ".txt with .ann, .a1 or .a2")
_PARTS = ("spans", "relations", "questions", "passages")


@dataclass(frozen=True)
class Reading:
    """How texts are read: `field` holds the text of JSON lines and tables, `format` is one of `TEXTS`, None to have it
    recognised. `passed_over` has, by file, a byte for each citation of PubMed XML, 1 for one that is not wanted.
    """

    field: str | None = None
    format: str | None = None
    passed_over: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in TEXTS:
            raise UserError(f"{self.format!r} is no format of texts: take {', '.join(TEXTS)}.")


def read_texts(path: str | Path, reading: Reading | None = None) -> Iterator[Document | Rejected]:
    """Give the texts of a file, or of a folder of `.txt` files, in order, and what cannot be used; memory stays flat.

    PubMed XML: the title, a blank and the abstract as PubMed shows them, labels included, so that offsets are those of
    PubTator. JSON lines and Parquet: the string of the field, by default "text" where there is one, else title, blank
    and abstract, under the "id" or "pmid" of the record; a JSON line of our own with its annotations. PubTator, BioC,
    BRAT, token files and the like: their text with the annotations that they hold. Other text: a document a line. A
    record without an id has the file's name, a colon and its number. Raises UserError for a file that is not whole or
    malformed as a whole.
    """
    path, reading = Path(path), reading or Reading()
    format = reading.format or recognise_texts(path)
    if reading.field is not None and format not in ("jsonl", "parquet"):
        raise UserError(f"{path}: --text-field is for JSON lines and Parquet; leave it out for this file.")
    match format:
        case "pubmed":
            return _citations(path, reading.passed_over.get(str(path.absolute()), b""))
        case "jsonl":
            return _objects(path, reading.field)
        case "parquet":
            return _table(path, reading.field)
        case "text":
            return _lines(path)
        case _:
            return _annotated(path, format)


def find_texts(inputs: Iterable[str | Path]) -> Sources:
    """The files that the inputs name, in the inputs' order, and folders of `.txt` files, which are read as one.

    Raises UserError as `sources.search` does, and for a folder, or the files of a pattern, of several kinds.
    """
    found, passed_over = list[Path](), list[Path]()
    for name in inputs:
        path = Path(name)
        files, others = _in_folder(path) if path.is_dir() else _named(str(name))
        found += files
        passed_over += others
    return Sources(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(passed_over)))


def _in_folder(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    """The files of a folder that are read, or the folder itself, and those that are passed over."""
    kinds = defaultdict[str, list[Path]](list)
    standoff = set(brat.texts(folder)) if brat.is_standoff(folder) else set()
    for file in visible(folder):
        kinds[_kind(file, standoff)].append(file)
    passed_over = kinds.pop("", [])
    if len(kinds) > 1:
        passed_over += kinds.pop("json", [])
    _check_one(folder, kinds)
    if not kinds:
        raise UserError(f"{folder}: no file of texts in it ({', '.join(_KNOWN)}; also .gz).")
    [(kind, files)] = kinds.items()
    if kind in ("brat", "text") and not any(file.suffix == ".gz" for file in files):
        return [folder], ordered(passed_over)
    return ordered(files), ordered(passed_over)


def _named(name: str) -> tuple[Sequence[Path], Sequence[Path]]:
    found = search([name])
    if not Path(name).exists():
        kinds = defaultdict[str, list[Path]](list)
        for file in found.files:
            kinds[kind_of(file)].append(file)
        _check_one(Path(name), kinds)
    return found.files, found.passed_over


def _kind(file: Path, standoff: set[Path]) -> str:
    """The kind of a folder's file, "" for one that holds no texts."""
    if file in standoff:
        return "brat"
    kind = kind_of(file)
    known = kind in (*KINDS.values(), "pubtator", "conll", "json")
    return "" if is_documentation(file) or not known else kind


def _check_one(place: Path, kinds: Mapping[str, Sequence[Path]]) -> None:
    if len(kinds) > 1:
        counted = ", ".join(f"{len(files):,} {kind} ({named(ordered(files))})" for kind, files in sorted(kinds.items()))
        raise UserError(f"{place}: it holds files of several kinds: {counted}; name those that you mean.")


def _annotated(path: Path, format: str) -> Iterator[Document | Rejected]:
    for one in annotated.entries(path, format):
        yield rejected(one, path) if isinstance(one, RecordError) else one


def _citations(path: Path, passed_over: bytes) -> Iterator[Document | Rejected]:
    place = 0
    for number, entry in enumerate(pubmed.read(path, labels=True), 1):
        if isinstance(entry, Rejected):
            yield entry
        elif isinstance(entry, Citation):
            if not passed_over[place : place + 1].strip(b"\0"):
                yield of_citation(entry, entry.pmid or f"{path.name}:{number}")
            place += 1


def of_citation(citation: Citation, name: str) -> Document:
    """A citation as a document, its title and abstract as passages."""
    text = citation.text
    title, abstract = len(citation.title), len(citation.abstract)
    passages = (Passage(0, title, "title"), Passage(len(text) - abstract, len(text), "abstract"))
    return Document(name, text, passages=tuple(p for p in passages if p.start < p.end))


def _objects(path: Path, field: str | None) -> Iterator[Document | Rejected]:
    with told(path):
        for line in each_line(path):
            if line.problem:
                yield Rejected(f"line {line.number}", str(line.problem))
                continue
            place, value = json_lines.object_of(line.number, line.text)
            if isinstance(value, Rejected):
                yield value
            elif field is None and "id" in value and "text" in value and any(part in value for part in _PARTS):
                yield _own(path, line)
            else:
                yield _document(value, field, place, path)


def _own(path: Path, line: Line) -> Document | Rejected:
    try:
        return document_in(path, line)
    except RecordError as error:
        return rejected(error, path)


def _table(path: Path, field: str | None) -> Iterator[Document | Rejected]:
    for place, row in citations.rows(path, [field] if field else fields.TEXT_KEYS, _IDS):
        yield _document(row, field, place, path)


def _document(value: Mapping[str, Any], field: str | None, place: str, path: Path) -> Document | Rejected:
    name = fields.name(value, _IDS, place)
    if isinstance(name, Rejected):
        return name
    name = name or f"{path.name}:{place.rpartition(' ')[2]}"
    if field is None and ("text" not in value or value.get("abstract") is not None):
        found = fields.citation({**value, "pmid": None}, place)
        return found if isinstance(found, Rejected) else of_citation(found, name)
    key = field or "text"
    if key not in value:
        return Rejected(place, f"no {key}")
    text = value[key]
    if not isinstance(text, str):
        return Rejected(place, f"{key} is not a string")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return Rejected(place, f"{key} holds half a surrogate pair")
    return Document(name, text)


def _lines(path: Path) -> Iterator[Document | Rejected]:
    with told(path):
        for line in each_line(path):
            if line.problem:
                yield Rejected(f"line {line.number}", str(line.problem))
            elif "\0" in line.text:
                yield Rejected(f"line {line.number}", "a NUL character, which no text holds")
            else:
                yield Document(f"{path.name}:{line.number}", line.text)
