"""Text with what is known about it. All offsets are characters into `text`, end exclusive."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation as PubMed lists it, before it becomes tokens.

    `pmid` is "" where the source has none. `version` is the PMID's `Version`, `revised` the `DateRevised` as
    yyyymmdd (0: unknown); together they say which of two records of one PMID is the newer.
    """

    pmid: str
    title: str
    abstract: str
    version: int = 1
    revised: int = 0


@dataclass(frozen=True, slots=True)
class Deletion:
    """A PMID that a `DeleteCitation` list of the NLM withdraws."""

    pmid: str


@dataclass(frozen=True, slots=True)
class Span:
    """A mention: `text[start:end]` of its document, of an entity type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A typed relation between two mentions, by their places in the document's `spans`."""

    head: int
    tail: int
    type: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question that the document answers; `answers` are the accepted wordings."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its mentions, relations and questions."""

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    relations: tuple[Relation, ...] = ()
    questions: tuple[Question, ...] = ()
