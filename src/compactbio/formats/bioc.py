"""BioC, as XML and as JSON: documents of passages with annotations and relations."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lxml import etree

from compactbio.documents import Document, Passage, Relation, Span
from compactbio.formats.checks import MISPLACED, Found, check_only, fits, left_out, not_writable, number
from compactbio.formats.json_lines import documents_of_values
from compactbio.formats.streams import RecordError, attempt, elements, named_errors

# What holds a mention's identifier; the first of these that is there counts.
_IDENTIFIERS = ("identifier", "mesh", "omim", "chebi", "ncbi gene", "species", "taxonomy", "ncbi taxonomy")
# What holds the two concepts of a relation.
_ENDS = (("entity1", "entity2"), ("Chemical", "Disease"))
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
# Blanks in the gaps between the passages of a document; no article leaves more.
_MOST_BLANKS = 1_000_000


def read(path: Path) -> Iterator[Found]:
    """Give the documents of a file in order, in memory that does not grow with it.

    Passages, or their sentences, are at their offsets in the text, gaps are blanks; a passage follows the one before
    after one blank where more of its mentions fit so. A passage's type is its infon `type`, else `section_type`.

    A mention's identifier is its infon `identifier`, or else that of a vocabulary (MESH, OMIM, CHEBI, NCBI Gene,
    Species, taxonomy, NCBI Taxonomy), in any letters, as `NCBI_Gene` or `NCBI Gene identifier` too; several locations
    are its fragments. The single mentions of a composite one (infon CompositeRole: IndividualMention) are left out, as
    in PubTator. Relations have two nodes, or infons role1 and role2, entity1 and entity2 or Chemical and Disease; the
    type is the infon `type` or `relation`. Mentions whose text is not at their offsets, and relations of other ends,
    are left out and counted in a warning of the log "compactbio.formats".

    No entity is resolved and nothing is fetched. Raises UserError for XML that is malformed or declares an entity; a
    document whose passages overlap or leave gaps of over a million characters, or that has an offset or length that is
    not a number, is given as a RecordError.
    """
    with named_errors(path):
        for element in elements(path, ("document",), "BioC", ("collection",)):
            found = attempt(_document, path, element)
            if isinstance(found, RecordError):
                # Files without line breaks have everything in line 1.
                found.place = f"document {_id(element)}, {found.place}"
            yield found


def write(documents: Iterable[Document], path: Path) -> None:
    """Write each document with its passages, or as one at offset 0; a mention is in the passage that it begins in.

    Raises UserError for questions, relations between a mention and a concept, and characters that XML does not allow.
    """
    with path.open("wb") as stream, etree.xmlfile(stream, encoding="utf-8") as xml:
        xml.write_declaration()
        with xml.element("collection"):
            for name, text in (("source", "compactbio"), ("date", ""), ("key", "")):
                xml.write(_element(name, text))
            for document in documents:
                xml.write(serialise(document))
        xml.flush()


def _id(element: Any) -> str:
    found = element.find("id")
    text = "" if found is None else found.text or ""
    return str(text if found is not None and found.get(_SPACE) == "preserve" else text.strip())


def _document(path: Path, element: Any) -> Document:
    """The document of an element `document`. Raises RecordError as `read` says."""
    name = _id(element)
    text, passages = _text(path, name, element)
    spans, places, wrong, again = list[Span](), dict[str, int](), list[str](), set[str]()
    for annotation in element.iter("annotation"):
        infons = _infons(annotation)
        if infons.get("CompositeRole") == "IndividualMention":
            continue
        if (span := _span(path, text, annotation, infons)) is None:
            wrong.append(infons.get("type", ""))
        else:
            known = annotation.get("id", "")
            again |= {known} & places.keys()
            places[known] = len(spans)
            spans.append(span)
    left_out(path, name, len(wrong), MISPLACED, wrong)
    for known in again:  # of two mentions with one id neither is meant
        del places[known]
    found = [_relation(relation, places) for relation in element.iter("relation")]
    relations = tuple(relation for relation in found if relation is not None)
    left_out(path, name, len(found) - len(relations), "relations that are not between two mentions or concepts")
    return Document(name, text, tuple(spans), relations, passages=passages)


def _text(path: Path, name: str, element: Any) -> tuple[str, tuple[Passage, ...]]:
    text, blanks, kind, begun = "", 0, "", False
    passages: list[Passage] = []
    for part in element.iter("passage", "sentence"):
        if part.tag == "passage":
            infons, begun = _infons(part), False
            kind = infons.get("type") or infons.get("section_type", "")
        content = part.find("text")
        if content is None:
            continue
        if next(content.iter(etree.Entity), None) is not None:
            reason = f"a passage of document {name} has an entity that nothing declares"
            raise RecordError(path, part.sourceline, reason, "write the character itself")
        shown = "".join(content.itertext())
        offset = _offset(path, part, shown, len(text))
        if offset < len(text):
            raise RecordError(path, part.sourceline, f"a passage of document {name} overlaps another", "fix its offset")
        blanks += offset - len(text)
        if blanks > _MOST_BLANKS:
            reason = f"the passages of document {name} leave gaps of over {_MOST_BLANKS:,} characters"
            raise RecordError(path, part.sourceline, reason, "fix its offsets")
        text = text.ljust(offset) + shown
        start = passages.pop().start if begun else offset
        passages.append(Passage(start, len(text), kind))
        begun = True
    return text, tuple(passages)


def _offset(path: Path, part: Any, shown: str, length: int) -> int:
    """Where a passage begins after a text of `length`: at its offset, or after one blank if more mentions fit there."""
    stated = _number(path, part.findtext("offset"), part)
    # The BioCreative files count a passage's offset in escaped characters (&apos;), and those of mentions in real ones.
    follows = length + 1 if length else 0
    return max((stated, follows), key=lambda offset: _fitting(path, part, shown, offset))


def _fitting(path: Path, part: Any, shown: str, offset: int) -> int:
    """How many mentions in one part are at their offsets in a passage that begins at `offset`."""
    count = 0
    for annotation in part.iterfind("annotation"):
        if len(places := _locations(path, annotation)) == 1:
            [(start, end)] = places
            count += start >= offset and shown[start - offset : end - offset] == annotation.findtext("text")
    return count


def _locations(path: Path, annotation: Any) -> list[tuple[int, int]]:
    places = []
    for location in annotation.iterfind("location"):
        offset, length = (_number(path, location.get(key), location) for key in ("offset", "length"))
        places.append((offset, offset + length))
    return sorted(places)


def _infons(element: Any) -> dict[str, str]:
    return {infon.get("key", ""): infon.text or "" for infon in element.iterfind("infon")}


def _span(path: Path, text: str, annotation: Any, infons: dict[str, str]) -> Span | None:
    places = _locations(path, annotation)
    if not places or not fits(places, len(text)):
        return None
    named = {name.casefold().replace("_", " ").removesuffix(" identifier"): value for name, value in infons.items()}
    identifier = next((named[key] for key in _IDENTIFIERS if named.get(key)), "")
    span = Span.over(places, infons.get("type", ""), identifier, _score(infons.get("score")))
    shown = text[span.start : span.end]
    return span if span.fragments or shown == annotation.findtext("text", shown) else None


def _score(text: str | None) -> float | None:
    """A score in [0, 1], None where there is none or it is another number."""
    with suppress(ValueError):
        value = float(text or "")
        return value if 0 <= value <= 1 else None
    return None


def _number(path: Path, text: str | None, element: Any) -> int:
    found = number((text or "").strip())
    if found is None or found < 0:
        reason = f"the offset or length of a {element.tag} is not a number of at most 18 digits"
        raise RecordError(path, element.sourceline, reason)
    return found


def _relation(element: Any, places: dict[str, int]) -> Relation | None:
    infons = _infons(element)
    kind = infons.get("type", infons.get("relation", ""))
    # PubTator 3 has TYPE|IDENTIFIER here, where nodes name no mention.
    head, tail = infons.get("role1", ""), infons.get("role2", "")
    if head and tail:
        return Relation(head.partition("|")[2] or head, tail.partition("|")[2] or tail, kind)
    nodes = [places.get(node.get("refid", "")) for node in element.iterfind("node")]
    if len(nodes) == 2 and nodes[0] is not None and nodes[1] is not None:
        return Relation(nodes[0], nodes[1], kind)
    ends = ((infons[head], infons[tail]) for head, tail in _ENDS if head in infons and tail in infons)
    return next((Relation(head, tail, kind) for head, tail in ends), None)


def serialise(document: Document) -> Any:
    """The element of a document. Raises UserError as `write` does."""
    check_only(document, "bioc", "mentions", "mentions in several parts", "relations")
    if any(isinstance(relation.head, str) != isinstance(relation.tail, str) for relation in document.relations):
        raise not_writable(document, "bioc", "it relates a mention and a concept")
    text = document.text
    passages = document.passages or (Passage(0, len(text)),)
    starts, ends = [passage.start for passage in passages], [passage.end for passage in passages]
    ends[-1] = len(text)
    try:
        parts = []
        for passage, end in zip(passages, ends, strict=True):
            inner = (_element("offset", str(passage.start)), _element("text", text[passage.start : end]))
            parts.append(_element("passage", None, *_new_infons(type=passage.type), *inner))
        for place, span in enumerate(document.spans):
            parts[bisect_right(starts, span.start, 1) - 1].append(_annotation_element(text, place, span))
        relations = [_relation_element(place, relation) for place, relation in enumerate(document.relations)]
        # Files of others have blanks around ids that mean nothing.
        kept = {_SPACE: "preserve"} if document.id != document.id.strip() else {}
        return _element("document", None, _element("id", document.id, **kept), *parts, *relations)
    except ValueError:
        raise not_writable(document, "bioc", "it has a character that XML does not allow") from None


def _element(tag: str, text: str | None, *children: Any, **attributes: str) -> Any:
    element = etree.Element(tag, attributes)
    element.text = text
    element.extend(children)
    return element


def _new_infons(**infons: str) -> list[Any]:
    return [_element("infon", text, key=key) for key, text in infons.items() if text]


def _annotation_element(text: str, place: int, span: Span) -> Any:
    score = "" if span.score is None else repr(span.score)
    infons = _new_infons(type=span.type, identifier=span.identifier, score=score)
    locations = [_element("location", None, offset=str(start), length=str(end - start)) for start, end in span.places]
    shown = _element("text", " ".join(text[start:end] for start, end in span.places))
    return _element("annotation", None, *infons, *locations, shown, id=f"T{place}")


def _relation_element(place: int, relation: Relation) -> Any:
    head, tail = relation.head, relation.tail
    if isinstance(head, str):
        ends = (("type", relation.type), ("entity1", head), ("entity2", str(tail)))
        inner = [_element("infon", text, key=key) for key, text in ends]
    else:
        nodes = [_element("node", None, refid=f"T{end}", role=role) for role, end in (("head", head), ("tail", tail))]
        inner = [*_new_infons(type=relation.type), *nodes]
    return _element("relation", None, *inner, id=f"R{place}")


def read_json(path: Path) -> Iterator[Found]:
    """Give the documents in order, as `bioc.read` gives those of XML.

    A document of another layout is given as a RecordError. Raises UserError for what is not JSON.
    """
    return documents_of_values(path, _document_of_json, _members)


def _members(value: Any) -> Iterator[Any]:
    """The documents in a value: a collection, an export of PubTator 3, or a list of these."""
    if isinstance(value, list):
        for member in value:
            yield from _members(member)
    elif isinstance(value, Mapping) and (held := value.get("PubTator3", value.get("documents"))) is not None:
        yield from _members(held)
    else:
        yield value


def _document_of_json(path: Path, place: str, value: Any) -> Document:
    name = value.get("id", value.get("pmid")) if isinstance(value, Mapping) else None
    place = place if name in (None, "") else f"document {name}"
    try:
        return _document(path, _json_element(value))
    except RecordError as error:
        reason = error.reason
    except (AttributeError, TypeError, ValueError, KeyError):
        reason = "it is not as BioC has it, or has a character that XML does not allow"
    raise RecordError(path, place, reason)


# What an element of BioC must have.
_REQUIRED = {"document": "passages", "passage": "offset", "sentence": "offset", "annotation": "locations"}


def _json_element(value: Mapping[str, Any], tag: str = "document") -> Any:
    """The same as an element of BioC XML. Raises KeyError, AttributeError, TypeError or ValueError for another."""
    if tag in _REQUIRED and value.get(_REQUIRED[tag]) is None:
        raise KeyError(_REQUIRED[tag])
    fields = {"id": value.get("id", value.get("pmid")), "offset": value.get("offset"), "text": value.get("text")}
    present = {name: str(field) for name, field in fields.items() if field is not None}
    element = _element(tag, None, *(_element(*field) for field in present.items()), id=present.get("id", ""))
    for key, content in (value.get("infons") or {}).items():
        if isinstance(content, Mapping) and content.get("identifier"):
            # A concept, as the ends of PubTator 3's relations are.
            content = f"{content.get('type') or 'concept'}|{content['identifier']}"
        if isinstance(content, str | int | float) and not isinstance(content, bool):
            element.append(_element("infon", str(content), key=key))
    for inner, attributes in (("location", ("offset", "length")), ("node", ("refid", "role"))):
        for place in value.get(f"{inner}s") or ():
            element.append(etree.Element(inner, {name: str(place.get(name, "")) for name in attributes}))
    for inner in ("passage", "sentence", "annotation", "relation"):
        element.extend([_json_element(member, inner) for member in value.get(f"{inner}s") or ()])
    return element
