"""Files of citations and of annotated documents, read one record at a time.

Citations: `find` turns what a user names into files, `kind` recognises a file, `read_citations` reads it. Annotated
documents: `recognise` names a file's format, `read` and `write` know all of `FORMATS`.
"""

from compactbio.formats.annotated import read, unsayable, write
from compactbio.formats.citations import Entry, read_citations
from compactbio.formats.problems import Rejected, SourceError
from compactbio.formats.recognise import Kind, kind
from compactbio.formats.signs import FORMATS, recognise
from compactbio.formats.sources import find

__all__ = [
    "FORMATS",
    "Entry",
    "Kind",
    "Rejected",
    "SourceError",
    "find",
    "kind",
    "read",
    "read_citations",
    "recognise",
    "unsayable",
    "write",
]
