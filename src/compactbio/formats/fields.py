"""Field values to a `Citation` and to ids: what all formats of citations share."""

import re
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from compactbio.documents import Citation
from compactbio.documents.words import has_surrogates
from compactbio.formats.streams import Rejected

TEXT_KEYS = ("title", "abstract", "text")
_FLOAT = re.compile(r"^\s*([0-9]+)\.0\s*$")
# What PubMed writes where a title is not known.
_NO_TITLE = re.compile(r"\[?(?:not available|no title available|in process citation)\.?\]?\.?", re.IGNORECASE)


class BrokenFieldError(Exception):
    """The reason why a field's value, and so its record, cannot be used."""


def spaced(text: str) -> str:
    """The text with every run of blanks made one space, and none at its ends."""
    return " ".join(text.split())


def title(text: str) -> str:
    """A title, blanks collapsed; "" where it says that there is none ("[Not Available].")."""
    found = spaced(text)
    return "" if _NO_TITLE.fullmatch(found) else found


def citation(record: Mapping[str, Any], place: str) -> Citation | Rejected:
    """The citation that a JSON object or table row describes, or why it has none.

    Keys: `pmid` (string or integer, may be missing), `title`, `abstract`; `text` replaces a missing `abstract`. A value
    of None counts as empty.
    """
    if not any(key in record for key in TEXT_KEYS):
        return Rejected(place, "no title, abstract or text")
    try:
        abstract = "abstract" if record.get("abstract") is not None else "text"
        return Citation(
            pmid=_pmid(record.get("pmid")),
            title=title(string(record.get("title"), "title")),
            abstract=spaced(string(record.get(abstract), abstract)),
        )
    except BrokenFieldError as error:
        return Rejected(place, str(error))


def string(value: Any, key: str) -> str:
    """The string under a key, "" for None. Raises BrokenFieldError for anything else, and half a surrogate pair."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BrokenFieldError(f"{key} is not a string")
    if has_surrogates(value):
        raise BrokenFieldError(f"{key} holds half a surrogate pair")
    return value


def identifier(record: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The first id under `keys` that is not empty, or "". Raises BrokenFieldError for a value that is not an id."""
    return next(filter(None, (_identifier(record.get(key), key) for key in keys)), "")


def _pmid(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise BrokenFieldError("pmid is not a positive number")
    found = _identifier(value, "pmid").strip()
    if any(map(str.isspace, found)) or len(found) > 100:
        raise BrokenFieldError("pmid is not an identifier")
    return found.lstrip("0") if found.isascii() and found.isdigit() else found


def _identifier(value: Any, key: str) -> str:
    """A string or an integer as a string; "" for None and NaN."""
    # A column of integers with gaps arrives as floating point, the gaps as NaN, or as the strings of these.
    if key == "pmid" and isinstance(value, str):
        return string("" if value == "nan" else _FLOAT.sub(r"\1", value), key)
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BrokenFieldError(f"{key} is not a string or an integer")
    return string(str(value), key)
