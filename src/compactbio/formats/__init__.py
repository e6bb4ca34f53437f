"""Files of citations, read one record at a time.

`find` turns what a user names into files, `kind` recognises a file, `read_citations` reads it.
"""

from compactbio.formats.citations import Entry, read_citations
from compactbio.formats.problems import Rejected, SourceError
from compactbio.formats.recognise import Kind, kind
from compactbio.formats.sources import find

__all__ = ["Entry", "Kind", "Rejected", "SourceError", "find", "kind", "read_citations"]
