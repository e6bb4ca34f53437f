"""PubMed/MEDLINE XML as the NLM ships it: baseline and update files, `PubmedArticleSet` and `MedlineCitationSet`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lxml import etree

from compactbio.documents import Citation, Deletion
from compactbio.formats.checks import malformed
from compactbio.formats.fields import spaced, title
from compactbio.formats.streams import Rejected, SourceError, opened

ROOTS = ("PubmedArticleSet", "MedlineCitationSet")
_RECORDS = ("MedlineCitation", "PubmedBookArticle", "DeleteCitation")
_MAX_VERSION = 2**31


class _BrokenRecordError(Exception):
    """The reason why a record cannot be used."""


def read(path: Path, *, labels: bool = False) -> Iterator[Citation | Deletion | Rejected]:
    """Give the records of a file in order, in memory that does not grow with it.

    The parts of a structured abstract are joined by one blank, with `labels` as PubMed and PubTator show them
    ("METHODS: ..."), else without; the text of inline markup is kept; OtherAbstract, VernacularTitle and
    CopyrightInformation are left out, and so is a title that says that there is none. Each PMID of a DeleteCitation
    list is a `Deletion`; the lists of the NLM withdraw a PMID whatever file it stands in.
    No entity is resolved and nothing is fetched. Raises SourceError for XML that is malformed, has another root
    (before any record is read), or declares an entity.
    """
    with opened(path) as stream:
        _check_prolog(stream)
    with opened(path) as stream:
        yield from _records(stream, labels)


def _check_prolog(stream: Any) -> None:
    """Refuse, reading no further than the root's start tag, what PubMed never ships."""
    root: list[str] = []
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = lambda name, _attributes: root.append(name)
    try:
        while not root:
            block = stream.read(8_192)
            parser.Parse(block, not block)
    except expat.ExpatError as error:
        if not root:
            raise SourceError(f"is malformed XML: {error}") from error
    if root[0] not in ROOTS:
        raise SourceError(f"is not PubMed XML: its root is <{root[0]}>, not <{ROOTS[0]}> or <{ROOTS[1]}>")


def _refuse_entity(*_declaration: Any) -> None:
    raise SourceError("declares entities, which PubMed never does")


def _records(stream: Any, labels: bool) -> Iterator[Citation | Deletion | Rejected]:
    events = etree.iterparse(
        stream,
        events=("end",),
        tag=_RECORDS,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        for number, (_event, element) in enumerate(events, 1):
            yield from _entries(element, number, labels)
            _forget(element)
    except etree.XMLSyntaxError as error:
        raise SourceError(malformed(error)) from error


def _forget(element: Any) -> None:
    """Free a record, and all that stands before it below the root."""
    element.clear()
    root = element.getroottree().getroot()
    top = element
    while (parent := top.getparent()) is not None and parent is not root:
        top = parent
    while top.getprevious() is not None:
        del root[0]


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
    except _BrokenRecordError as error:
        yield Rejected(place, str(error))


def _citation(element: Any, labels: bool) -> Citation:
    pmid = element.find("PMID")
    if pmid is None or not _number(pmid.text):
        raise _BrokenRecordError("PMID is missing or no number")
    parts = element.iterfind("Article/Abstract/AbstractText")
    return Citation(
        pmid=_number(pmid.text),
        title=title(_text(element.find("Article/ArticleTitle"))),
        abstract=spaced(" ".join((_label(part) if labels else "") + _text(part) for part in parts)),
        version=_version(pmid.get("Version", "1")),
        revised=_date(element.find("DateRevised")),
    )


def _label(part: Any) -> str:
    label = part.get("Label", "").strip()
    return f"{label}: " if label and label != "UNLABELLED" else ""


def _number(text: str | None) -> str:
    """A positive number without leading zeros, or ""."""
    digits = (text or "").strip()
    return digits.lstrip("0") if digits.isascii() and digits.isdigit() and len(digits) < 19 else ""


def _version(text: str) -> int:
    version = int(_number(text) or 0)
    if not 0 < version < _MAX_VERSION:
        raise _BrokenRecordError("PMID's Version is no number")
    return version


def _date(element: Any) -> int:
    """yyyymmdd, or 0 where there is no date."""
    if element is None:
        return 0
    year, month, day = (int(_number(element.findtext(name)) or 0) for name in ("Year", "Month", "Day"))
    if not (0 < year < 10_000 and 0 < month < 13 and 0 < day < 32):
        raise _BrokenRecordError("DateRevised is no date")
    return year * 10_000 + month * 100 + day


def _text(element: Any) -> str:
    if element is None:
        return ""
    if next(element.iter(etree.Entity), None) is not None:
        raise _BrokenRecordError("an entity that nothing declares")
    return "".join(element.itertext())
