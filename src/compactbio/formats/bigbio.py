"""BigBIO's schema for knowledge bases, as JSON: a document per line, or an array of documents.

Source: Fries et al., BigBIO: a framework for data-centric biomedical natural language processing, NeurIPS 2022.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from compactbio.documents import Document, Passage, Relation, Span
from compactbio.formats.checks import MISPLACED, Found, fits, left_out
from compactbio.formats.json_lines import documents_of_values
from compactbio.formats.streams import RecordError

# The longest gap between passages.
_MOST_BLANKS = 1_000_000
_Id = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
_Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


@dataclass(frozen=True)
class _Text:
    text: _Texts
    offsets: list[tuple[int, int]]
    type: str = ""
    id: _Id = ""


@dataclass(frozen=True)
class _Concept:
    db_name: str | None = None
    db_id: _Id | None = None


@dataclass(frozen=True)
class _Entity(_Text):
    normalized: tuple[_Concept, ...] = ()


@dataclass(frozen=True)
class _Relation:
    type: str
    arg1_id: _Id
    arg2_id: _Id


@dataclass(frozen=True)
class _Document:
    passages: list[_Text]
    entities: list[_Entity]
    id: _Id = ""
    document_id: _Id = ""
    relations: tuple[_Relation, ...] = ()
    events: tuple[Any, ...] = ()


_DOCUMENT = TypeAdapter(_Document)


def read(path: Path) -> Iterator[Found]:
    """Give the documents in order; the id is the `document_id`, else the `id`, and the text is the passages at their
    offsets, blanks between them.

    A mention's identifier is its normalised ones, `DB:ID`, joined by `|`. Mentions whose text is not at their offsets,
    relations that are not between two mentions, and events are left out, and counted in a warning of the log
    "compactbio.formats". A document of another layout is given as a RecordError. Raises UserError for what is not JSON.
    """
    return documents_of_values(path, _document)


def _document(path: Path, place: str, value: Any) -> Document:
    try:
        found = _DOCUMENT.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise RecordError(path, place, f"{'.'.join(map(str, first['loc']))} is not as BigBIO has it") from None
    name = found.document_id or found.id
    text, passages = _text(path, place, found.passages)
    spans, places = list[Span](), dict[str, int]()
    for entity in found.entities:
        if span := _span(text, entity):
            places[entity.id] = len(spans)
            spans.append(span)
    left_out(path, name, len(found.entities) - len(spans), MISPLACED)
    relations = tuple(
        Relation(places[relation.arg1_id], places[relation.arg2_id], relation.type)
        for relation in found.relations
        if relation.arg1_id in places and relation.arg2_id in places
    )
    left_out(path, name, len(found.relations) - len(relations), "relations that are not between two mentions")
    left_out(path, name, len(found.events), "events")
    return Document(name or place.rpartition(" ")[2], text, tuple(spans), relations, passages=passages)


def _text(path: Path, place: str, parts: list[_Text]) -> tuple[str, tuple[Passage, ...]]:
    text = ""
    passages = []
    for part in parts:
        shown = " ".join(part.text)
        start = min((start for start, _ in part.offsets), default=len(text))
        if start < len(text) or start > len(text) + _MOST_BLANKS:
            reason = "its passages overlap or leave a gap of over a million characters"
            raise RecordError(path, place, reason, "fix its offsets")
        text = text.ljust(start) + shown
        passages.append(Passage(start, len(text), part.type))
    return text, tuple(passages)


def _span(text: str, entity: _Entity) -> Span | None:
    if not entity.offsets or not fits(sorted(entity.offsets), len(text)):
        return None
    if [text[start:end] for start, end in entity.offsets] != entity.text:
        return None
    names = [":".join(filter(None, (concept.db_name, concept.db_id))) for concept in entity.normalized]
    return Span.over(entity.offsets, entity.type, "|".join(filter(None, names)))
