"""Files of citations and of annotated documents, read one record at a time.

`read` and `write` know annotated documents, `read_citations` what a corpus is made of, and `read_texts` texts to
annotate, which both of these hold. `recognise` and `recognise_citations` name a file's format; `find_citations` and
`find_texts` turn what a user names into files.
"""

from compactbio.formats.recognise import FORMATS, READABLE, recognise, recognise_citations
from compactbio.formats.records import Reading
from compactbio.formats.registry import Entry, read, read_citations, read_texts, why_not_writable, write
from compactbio.formats.sources import find_citations, find_texts
from compactbio.formats.streams import Rejected, SourceError

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
    "why_not_writable",
    "write",
]
