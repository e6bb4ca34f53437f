"""Files of citations and of annotated documents, read one record at a time.

`read` and `write` know annotated documents, `read_citations` what a corpus is made of, and `read_texts` texts to
annotate, which both of these hold; the table of formats says what serves each. `recognise` and `recognise_citations`
name a file's format; `find_citations` and `find_texts` turn what a user names into files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.documents import Citation, Deletion, Document
from compactbio.errors import UserError, check_named
from compactbio.files import atomic_file, atomic_folder, check_has_name
from compactbio.formats import (
    bigbio,
    bioc,
    brat,
    conll,
    drugprot,
    json_lines,
    parquet,
    pubmed,
    pubtator,
    questions,
    records,
)
from compactbio.formats import relation_sentences as marked
from compactbio.formats.checks import Found, inconsistency
from compactbio.formats.recognise import FORMATS, READABLE, recognise, recognise_citations, recognise_texts
from compactbio.formats.records import Reading
from compactbio.formats.sources import check_regular, find_citations, find_texts
from compactbio.formats.streams import RecordError, Rejected, SourceError, head, marks_per_byte, named_errors, rejected

__all__ = [
    "FORMATS",
    "READABLE",
    "Entry",
    "Reading",
    "Rejected",
    "SourceError",
    "find_citations",
    "find_texts",
    "read",
    "read_citations",
    "read_texts",
    "recognise",
    "recognise_citations",
    "records_per_byte",
    "why_not_writable",
    "write",
]

Entry = Citation | Deletion | Rejected
_BOM = "\ufeff"


@dataclass(frozen=True)
class _Format:
    """What can be done with a format: its readers, and its writers of one document and of a file; None for what cannot.

    Texts to annotate are by default annotated documents; a file is by default each document serialised, after a header.
    """

    documents: Callable[[Path], Iterator[Document] | Iterator[Found]] | None = None
    citations: Callable[[Path], Iterator[Entry]] | None = None
    texts: Callable[[Path, Reading], Iterator[Document | Rejected]] | None = None
    serialise: Callable[[Document], object] | None = None  # raises UserError for what the format cannot hold
    write: Callable[[Iterable[Document], Path], None] | None = None
    header: str = ""
    mark: bytes = b""  # what is about once in each record of a file


_TABLE = {
    "conll": _Format(conll.read, serialise=conll.serialise, mark=b"\n\n"),
    "pubtator": _Format(pubtator.read, serialise=pubtator.serialise, mark=b"|t|"),
    "bioc": _Format(bioc.read, serialise=bioc.serialise, write=bioc.write, mark=b"</document>"),
    "brat": _Format(brat.read, serialise=brat.serialise, write=brat.write),
    "squad": _Format(questions.read_squad, write=questions.write_squad),
    "squad-rows": _Format(questions.read_squad_rows),
    "bioasq": _Format(questions.read_bioasq, write=questions.write_bioasq),
    "marked": _Format(marked.read, serialise=marked.serialise, header=marked.HEADER, mark=b"\n"),
    "marked-jsonl": _Format(marked.read_jsonl, serialise=marked.serialise_jsonl),
    "jsonl": _Format(
        json_lines.read_documents,
        citations=records.citations_of_objects,
        texts=records.texts_of_objects,
        serialise=json_lines.serialise,
        mark=b"\n",
    ),
    "bioc-json": _Format(bioc.read_json),
    "bigbio": _Format(bigbio.read),
    "drugprot": _Format(drugprot.read),
    "hf-jsonl": _Format(json_lines.read_tagged, mark=b"\n"),
    "pubmed": _Format(citations=pubmed.read, texts=records.texts_of_pubmed, mark=b"</PubmedArticle>"),
    "parquet": _Format(
        parquet.read,
        citations=records.citations_of_rows,
        texts=records.texts_of_rows,
        serialise=parquet.row,
        write=parquet.write,
    ),
    "text": _Format(citations=records.citations_of_lines, texts=records.texts_of_lines, mark=b"\n"),
}


def read(path: str | Path, format: str | None = None) -> Iterator[Document]:
    """Give the annotated documents of a file, or a folder of BRAT or DrugProt, in order; all but JSON files lazily.

    gzip (but of Parquet), a BOM and the line ends of all systems are read too.

    Args:
        path: a file, or a folder of BRAT or DrugProt.
        format: one of `READABLE`, each described in its module; by default it is recognised by content.

    Raises:
        UserError: at once for a path that does not exist and a format that is unknown or not recognised, and at its
            place for what is malformed.

    Examples:
        >>> for document in read("NCBI-disease/test.tsv"):
        ...     print(document.id, [document.text[span.start : span.end] for span in document.spans])
    """
    path = Path(check_named(path, "path"))
    if format is not None:
        _check_known(format, READABLE, "annotated documents")
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder.")
    check_regular(path)
    return _raising(_entries(path, format or recognise(path)))


def _entries(path: Path, format: str) -> Iterator[Document] | Iterator[Found]:
    reader = _TABLE[format].documents
    assert reader is not None
    return reader(path)


def _raising(found: Iterable[Found]) -> Iterator[Document]:
    for entry in found:
        if isinstance(entry, RecordError):
            raise entry
        yield entry


def read_citations(path: str | Path, format: str | None = None) -> Iterator[Entry]:
    """Give the records of a file in order: citations, withdrawn PMIDs, and records that cannot be used.

    Text is as written, with its blanks collapsed. Memory does not grow with the file.

    Args:
        path: a file.
        format: "pubmed", "jsonl", "parquet" or "text"; by default it is recognised.

    Raises:
        SourceError: at any record, for a file that is not whole: nothing of it should be used then.
    """
    path = Path(path)
    reader = _TABLE[format or recognise_citations(path)].citations
    assert reader is not None
    return reader(path)


def read_texts(path: str | Path, reading: Reading | None = None) -> Iterator[Document | Rejected]:
    """Give the texts of a file, or of a folder of `.txt` files, in order, and what cannot be used; memory stays flat.

    PubMed XML: the title, a blank and the abstract as PubMed shows them, labels included, so that offsets are those of
    PubTator. JSON lines and Parquet: the string of the field, by default "text" where there is one, else title, blank
    and abstract, under the "id" or "pmid" of the record; a JSON line of ours with its annotations. PubTator, BioC,
    BRAT, token files and the like: their text with the annotations that they hold. Other text: a document per line. A
    record without an id has the file's name, a colon and its number.

    Args:
        path: a file, or a folder of texts.
        reading: how it is read, by default by recognition.

    Raises:
        UserError: a file that is not whole, or is malformed as a whole.
    """
    path, reading = Path(path), reading or Reading()
    with named_errors(path):
        format = reading.format or recognise_texts(path)
    if reading.field is not None and format not in ("jsonl", "parquet"):
        raise UserError(
            f"{path}: only JSON lines and Parquet have a field of text; leave it out for this file.",
            setting="text_field",
        )
    if texts := _TABLE[format].texts:
        return texts(path, reading)
    return (rejected(found, path) if isinstance(found, RecordError) else found for found in _entries(path, format))


def records_per_byte(path: Path, reading: Reading) -> float:
    """About how many records a file of texts has per byte, by its beginning; 0 where that is not known."""
    try:
        if path.is_dir():
            return 0.0
        if parquet.begins(head(path)):
            return parquet.count(path) / path.stat().st_size
        mark = _TABLE[reading.format or recognise_texts(path)].mark
        return marks_per_byte(path, mark) if mark else 0.0
    except UserError:  # it is reported when the file is read
        return 0.0


def write(documents: Iterable[Document], path: str | Path, format: str) -> None:
    """Write documents to a file, or a BRAT folder, which appears whole or not at all.

    Line formats and BioC are written document by document.

    Args:
        documents: what to write.
        path: the file, or a new or empty folder for BRAT; folders above it are made.
        format: one of `FORMATS`.

    Raises:
        UserError: an unknown format, a document that contradicts itself or has what the format cannot hold, naming it,
            and a BRAT folder that holds something already.

    Examples:
        >>> write(read("corpus.xml"), "corpus.jsonl", "jsonl")
    """
    path = Path(check_named(path, "path"))
    _check_known(format, FORMATS, "annotated documents that can be written")
    known = _TABLE[format]
    check_has_name(path)
    check_regular(path)
    path = path.resolve() if path.is_symlink() else path  # which stays one
    if isinstance(documents, Document | str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise UserError(f"documents is of type {type(documents).__name__}: give a list, or any iterable, of Document.")
    checked = _checked(documents)
    if format == "brat" and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: there is something already; name a new folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (atomic_folder if format == "brat" else atomic_file)(path) as partial:
        if known.write:
            known.write(checked, partial)
            return
        assert known.serialise is not None
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(known.header)
            for number, document in enumerate(checked):
                text = str(known.serialise(document))
                # A reader drops the first BOM of a file.
                file.write(_BOM + text if number == 0 and not known.header and text.startswith(_BOM) else text)


def why_not_writable(document: Document, format: str) -> str | None:
    """Why a document cannot be written in a format, None where it can."""
    if reason := inconsistency(document):
        return reason
    serialise = _TABLE[format].serialise
    try:
        if serialise is not None:
            serialise(document)
    except UserError as error:
        return str(error)
    return None


def _check_known(format: str, formats: tuple[str, ...], what: str) -> None:
    if format not in formats:
        raise UserError(f"{format!r} is not a format of {what}: take {', '.join(formats)}.", setting="format")


def _checked(documents: Iterable[Any]) -> Iterator[Document]:
    """The documents, with Python's own numbers. Raises UserError for what is not one, and for a wrong field."""
    for number, document in enumerate(documents):
        if not isinstance(document, Document):
            kind = type(document).__name__
            raise UserError(f"Document {number} (counted from 0) is of type {kind}; give a Document.")
        found, wrong = json_lines.validated_document(document)
        if wrong:
            raise UserError(f"Document {document.id!r} cannot be written: {wrong}; fix it first.")
        yield found
