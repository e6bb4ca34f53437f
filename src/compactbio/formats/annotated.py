"""One way to read annotated documents, and one to write them, whatever the format."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.files import atomic_file, atomic_folder
from compactbio.formats import bigbio, bioasq, bioc, brat, conll, json_lines, pubtator, relation_sentences, squad
from compactbio.formats.checks import Found, fault
from compactbio.formats.recognise import FORMATS, READABLE, recognise
from compactbio.formats.streams import RecordError

_READERS: Mapping[str, Callable[[Path], Iterator[Document] | Iterator[Found]]] = {
    "conll": conll.read,
    "pubtator": pubtator.read,
    "bioc": bioc.read,
    "brat": brat.read,
    "squad": squad.read,
    "bioasq": bioasq.read,
    "marked": relation_sentences.read,
    "marked-jsonl": relation_sentences.read_jsonl,
    "jsonl": json_lines.read_documents,
    "bioc-json": bioc.read_json,
    "bigbio": bigbio.read,
    "hf-jsonl": json_lines.read_tagged,
}
# Formats of records that follow each other: how one is said, after a header.
_LINES: dict[str, tuple[str, Callable[[Document], str]]] = {
    "conll": ("", conll.said),
    "pubtator": ("", pubtator.said),
    "marked": (relation_sentences.HEADER, relation_sentences.said),
    "marked-jsonl": ("", relation_sentences.said_jsonl),
    "jsonl": ("", json_lines.said),
}
_WHOLE: dict[str, Callable[[Iterable[Document], Path], None]] = {
    "bioc": bioc.write,
    "squad": squad.write,
    "bioasq": bioasq.write,
}
_CHECKS: dict[str, Callable[[Document], object]] = {
    **{format: said for format, (_, said) in _LINES.items()},
    "bioc": bioc.said,
    "brat": brat.said,
}
_BOM = "\ufeff"


def read(path: str | Path, format: str | None = None) -> Iterator[Document]:
    """Give the documents of a file, or a BRAT folder, in order; all but JSON files lazily.

    The format is recognised by content unless `format` names it; the formats are `READABLE`, each described in its
    module. gzip, a BOM and the line ends of all systems are read too. Raises UserError at once for what does not exist
    and a format that is unknown or not recognised, and at the place in question for what is malformed.
    """
    return _raising(entries(path, format))


def entries(path: str | Path, format: str | None = None) -> Iterator[Document] | Iterator[Found]:
    """The same, with a RecordError in the place of each malformed document that the reader can read on behind.

    Raises UserError as `read` does, where it cannot.
    """
    path = Path(path)
    if format is not None:
        _check_known(format, READABLE)
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder.")
    return _READERS[format or recognise(path)](path)


def write(documents: Iterable[Document], path: str | Path, format: str) -> None:
    """Write documents to a file, or a BRAT folder, which appears whole or not at all.

    Line formats and BioC are written document by document. Raises UserError for an unknown format, a document that
    contradicts itself or has what the format cannot say, naming it, and a BRAT folder that holds something already.
    """
    _check_known(format, FORMATS)
    path = Path(path)
    sound = _sound(documents)
    if format == "brat":
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: there is something already; name a new folder.")
        with atomic_folder(path) as partial:
            brat.write(sound, partial)
        return
    with atomic_file(path) as partial:
        if format in _WHOLE:
            _WHOLE[format](sound, partial)
        else:
            _write_lines(sound, partial, *_LINES[format])


def unsayable(document: Document, format: str) -> str | None:
    """Why a document cannot be written as a format, None where it can."""
    if reason := fault(document):
        return reason
    try:
        _CHECKS[format](document)
    except UserError as error:
        return str(error)
    return None


def _check_known(format: str, formats: tuple[str, ...]) -> None:
    if format not in formats:
        raise UserError(f"{format!r} is no format of annotated documents: take {', '.join(formats)}.")


def _raising(found: Iterable[Found]) -> Iterator[Document]:
    for one in found:
        if isinstance(one, RecordError):
            raise one
        yield one


def _sound(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        if reason := fault(document):
            raise UserError(f"Document {document.id!r} cannot be written: {reason}; mend it first.")
        yield document


def _write_lines(documents: Iterable[Document], path: Path, header: str, said: Callable[[Document], str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(header)
        for number, document in enumerate(documents):
            text = said(document)
            # A reader takes the first BOM of a file for no part of its text.
            file.write(_BOM + text if number == 0 and not header and text.startswith(_BOM) else text)
