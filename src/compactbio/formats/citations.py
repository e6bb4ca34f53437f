"""One way to read a file of citations, whatever its format."""

from collections.abc import Iterator
from pathlib import Path

from compactbio.documents import Citation, Deletion
from compactbio.formats import jsonlines, pubmed, tables, text
from compactbio.formats.problems import Rejected
from compactbio.formats.recognise import Kind, kind

Entry = Citation | Deletion | Rejected


def read_citations(path: str | Path, known: Kind | None = None) -> Iterator[Entry]:
    """Give the records of a file in order: citations, withdrawn PMIDs, and records that cannot be used.

    `known` is the file's format where `kind` has already been asked. Text comes as it is written, with
    its blanks collapsed. Memory does not grow with the file.
    Raises SourceError, at any record, for a file that is not whole: nothing of it should be used then.
    """
    path = Path(path)
    match known or kind(path):
        case "xml":
            return pubmed.read(path)
        case "jsonl":
            return jsonlines.read(path)
        case "parquet":
            return tables.read(path)
        case "text":
            return text.read(path)
