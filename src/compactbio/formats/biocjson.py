"""BioC JSON: a collection, a document, an array of either, one of them a line, or PubTator 3's export.

Source: the JSON of the BioC API of the NLM and of PubTator 3 (an object with the key "PubTator3"). Its objects are
those of BioC XML, and are read as these.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from compactbio.documents import Document
from compactbio.formats import bioc
from compactbio.formats.faults import Found, attempted, broken_at
from compactbio.formats.jsonlines import values
from compactbio.formats.problems import RecordError


def read(path: Path) -> Iterator[Found]:
    """Give the documents in order, as `bioc.read` gives those of XML.

    A document of another layout is given as a RecordError. Raises UserError for what is not JSON.
    """
    for place, value in values(path):
        for one in _documents(value):
            yield one if isinstance(one, RecordError) else attempted(_document, path, one, place)


def _documents(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _documents(one)
    elif isinstance(value, Mapping) and (held := value.get("PubTator3", value.get("documents"))) is not None:
        yield from _documents(held)
    else:
        yield value


def _document(path: Path, value: Any, place: str) -> Document:
    name = value.get("id", value.get("pmid")) if isinstance(value, Mapping) else None
    place = place if name in (None, "") else f"document {name}"
    try:
        return bioc.document_of(path, _element(value))
    except RecordError as error:
        reason = error.reason
    except (AttributeError, TypeError, ValueError, KeyError):
        reason = "it is not as BioC has it, or has a character that XML does not allow"
    raise broken_at(path, place, reason, "fix it there")


def _element(value: Mapping[str, Any]) -> Any:
    """The element `document` of BioC XML that says the same."""
    document = etree.Element("document")
    _text(document, "id", value.get("id", value.get("pmid")))
    for passage in value["passages"]:
        _passage(etree.SubElement(document, "passage"), passage)
    _annotations(document, value)
    return document


def _passage(element: Any, value: Mapping[str, Any]) -> None:
    _infons(element, value)
    _text(element, "offset", value["offset"])
    if value.get("text") is not None:
        _text(element, "text", value["text"])
    for sentence in value.get("sentences") or ():
        _passage(etree.SubElement(element, "sentence"), sentence)
    _annotations(element, value)


def _annotations(parent: Any, value: Mapping[str, Any]) -> None:
    for one in value.get("annotations") or ():
        element = etree.SubElement(parent, "annotation", id=str(one.get("id", "")))
        _infons(element, one)
        for place in one["locations"]:
            etree.SubElement(element, "location", offset=str(place["offset"]), length=str(place["length"]))
        if one.get("text") is not None:
            _text(element, "text", one["text"])
    for one in value.get("relations") or ():
        element = etree.SubElement(parent, "relation", id=str(one.get("id", "")))
        _infons(element, one)
        for node in one.get("nodes") or ():
            etree.SubElement(element, "node", refid=str(node.get("refid", "")), role=str(node.get("role", "")))


def _infons(element: Any, value: Mapping[str, Any]) -> None:
    for key, content in (value.get("infons") or {}).items():
        if isinstance(content, Mapping) and content.get("identifier"):
            # A concept, as the ends of PubTator 3's relations are.
            content = f"{content.get('type') or 'concept'}|{content['identifier']}"
        if isinstance(content, str | int | float) and not isinstance(content, bool):
            _text(element, "infon", content).set("key", key)


def _text(parent: Any, name: str, content: Any) -> Any:
    element = etree.SubElement(parent, name)
    element.text = "" if content is None else str(content)
    return element
