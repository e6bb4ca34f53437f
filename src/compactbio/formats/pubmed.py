"""PubMed/MEDLINE XML as the NLM publishes it: baseline and update files, `PubmedArticleSet`, `MedlineCitationSet`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from compactbio.documents import Citation, Deletion
from compactbio.formats.checks import BrokenFieldError
from compactbio.formats.streams import Rejected, elements

ROOTS = ("PubmedArticleSet", "MedlineCitationSet")
_RECORDS = ("MedlineCitation", "PubmedBookArticle", "DeleteCitation")
_MAX_VERSION = 2**31
# What PubMed writes where a title is not known.
_NO_TITLE = re.compile(r"\[?(?:not available|no title available|in process citation)\.?\]?\.?", re.IGNORECASE)


def read(path: Path, *, labels: bool = False) -> Iterator[Citation | Deletion | Rejected]:
    """Give the records of a file in order, in memory that does not grow with it.

    The text of inline markup is kept; OtherAbstract, VernacularTitle and CopyrightInformation are left out, and so is a
    title that says that there is none. Each PMID of a DeleteCitation list is a `Deletion`. No entity is resolved and
    nothing is fetched.

    Args:
        path: a file, gzip or not.
        labels: whether the parts of a structured abstract keep their labels, as PubMed and PubTator show them
            ("METHODS: ..."); the parts are joined by one blank.

    Raises:
        SourceError: XML that is malformed, has another root (before any record is read), or declares an entity.
    """
    for number, element in enumerate(elements(path, _RECORDS, "PubMed", ROOTS), 1):
        yield from _entries(element, number, labels)


def _entries(element: Any, number: int, labels: bool) -> Iterator[Citation | Deletion | Rejected]:
    if element.tag == "DeleteCitation":
        numbers = (_number(child.text) for child in element.iterfind("PMID"))
        yield from (Deletion(number) for number in numbers if number)
        return
    pmid = element.findtext("PMID") or element.findtext("BookDocument/PMID") or ""
    place = f"PMID {pmid}" if _number(pmid) else f"record {number}"
    if element.tag == "PubmedBookArticle":
        yield Rejected(place, "a book, not a citation")
        return
    try:
        yield _citation(element, labels)
    except BrokenFieldError as error:
        yield Rejected(place, str(error))


def _citation(element: Any, labels: bool) -> Citation:
    pmid = element.find("PMID")
    if pmid is None or not _number(pmid.text):
        raise BrokenFieldError("PMID is missing or not a number")
    version = int(_number(pmid.get("Version", "1")) or 0)
    if not 0 < version < _MAX_VERSION:
        raise BrokenFieldError("PMID's Version is not a number")
    parts = element.iterfind("Article/Abstract/AbstractText")
    return Citation(
        pmid=_number(pmid.text),
        title=title(_text(element.find("Article/ArticleTitle"))),
        abstract=spaced(" ".join((_label(part) if labels else "") + _text(part) for part in parts)),
        version=version,
        revised=_date(element.find("DateRevised")),
    )


def spaced(text: str) -> str:
    """The text with every run of blanks made one space, and none at its ends."""
    return " ".join(text.split())


def title(text: str) -> str:
    """A title, blanks collapsed; "" where it says that there is none ("[Not Available].")."""
    found = spaced(text)
    return "" if _NO_TITLE.fullmatch(found) else found


def _label(part: Any) -> str:
    label = part.get("Label", "").strip()
    return f"{label}: " if label and label != "UNLABELLED" else ""


def _number(text: str | None) -> str:
    """A positive number without leading zeros, or ""."""
    digits = (text or "").strip()
    return digits.lstrip("0") if digits.isascii() and digits.isdigit() and len(digits) < 19 else ""


def _date(element: Any) -> int:
    """yyyymmdd, or 0 where there is no date."""
    if element is None:
        return 0
    year, month, day = (int(_number(element.findtext(name)) or 0) for name in ("Year", "Month", "Day"))
    if not (0 < year < 10_000 and 0 < month < 13 and 0 < day < 32):
        raise BrokenFieldError("DateRevised is not a date")
    return year * 10_000 + month * 100 + day


def _text(element: Any) -> str:
    if element is None:
        return ""
    if next(element.iter(etree.Entity), None) is not None:
        raise BrokenFieldError("an entity that nothing declares")
    return "".join(element.itertext())
