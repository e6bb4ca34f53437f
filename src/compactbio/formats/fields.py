"""Field values to a `Citation`: what all formats of citations share."""

import re
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from compactbio.documents import Citation
from compactbio.formats.streams import Rejected

TEXT_KEYS = ("title", "abstract", "text")
_FLOAT = re.compile(r"^\s*([0-9]+)\.0\s*$")
# What PubMed writes where a title is not known.
_NO_TITLE = re.compile(r"\[?(?:not available|no title available|in process citation)\.?\]?\.?", re.IGNORECASE)


class _BrokenFieldError(Exception):
    """The reason why a field is no value of its kind."""


def spaced(text: str) -> str:
    """The text with every run of blanks made one space, and none at its ends."""
    return " ".join(text.split())


def title(text: str) -> str:
    """A title, blanks collapsed; "" where it says that there is none ("[Not Available].")."""
    found = spaced(text)
    return "" if _NO_TITLE.fullmatch(found) else found


def citation(record: Mapping[str, Any], place: str) -> Citation | Rejected:
    """The citation that a JSON object or table row describes, or why it is none.

    Keys: `pmid` (string or integer, may be missing), `title`, `abstract`; `text` stands for a missing `abstract`.
    A value of None is an empty one.
    """
    if not any(key in record for key in TEXT_KEYS):
        return Rejected(place, "no title, abstract or text")
    try:
        abstract = "abstract" if record.get("abstract") is not None else "text"
        return Citation(
            pmid=_pmid(record.get("pmid")),
            title=title(_text(record, "title")),
            abstract=spaced(_text(record, abstract)),
        )
    except _BrokenFieldError as error:
        return Rejected(place, str(error))


def name(record: Mapping[str, Any], keys: Sequence[str], place: str) -> str | Rejected:
    """The first id under `keys` that is not empty, "" where there is none, or why it is not an id."""
    try:
        return next(filter(None, (_identifier(record.get(key), key) for key in keys)), "")
    except _BrokenFieldError as error:
        return Rejected(place, str(error))


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _BrokenFieldError(f"{key} is not a string")
    return _whole(value, key)


def _pmid(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise _BrokenFieldError("pmid is not a positive number")
    found = _identifier(value, "pmid").strip()
    if any(map(str.isspace, found)) or len(found) > 100:
        raise _BrokenFieldError("pmid is not an identifier")
    return found.lstrip("0") if found.isascii() and found.isdigit() else found


def _identifier(value: Any, key: str) -> str:
    """A string or an integer as a string; "" for None and NaN."""
    # A column of integers with gaps arrives as floating point, the gaps as NaN, or as the strings of these.
    if key == "pmid" and isinstance(value, str):
        return _whole("" if value == "nan" else _FLOAT.sub(r"\1", value), key)
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _BrokenFieldError(f"{key} is not a string or an integer")
    return _whole(str(value), key)


def _whole(text: str, key: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _BrokenFieldError(f"{key} holds half a surrogate pair")
    return text
