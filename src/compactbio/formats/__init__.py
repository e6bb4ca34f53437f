"""Files of citations and of annotated documents, read one record at a time.

`find` turns what a user names into files. Citations: `kind` recognises a file, `read_citations` reads it. Annotated
documents: `recognise` names a file's format, `read` knows all of `READABLE` and `write` all of `FORMATS`. Texts to
annotate, which both of these hold: `texts.read_texts`.
"""

from compactbio.formats.annotated import read, unsayable, write
from compactbio.formats.citations import Entry, read_citations
from compactbio.formats.recognise import FORMATS, READABLE, Kind, kind, recognise
from compactbio.formats.sources import find
from compactbio.formats.streams import Rejected, SourceError

__all__ = [
    "FORMATS",
    "READABLE",
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
