"""Text with what is known about it. All offsets are characters into `text`, end exclusive."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation as PubMed lists it, before it becomes tokens.

    `pmid` is "" where the source has none. `title` is as the source has it, square brackets included. `version` is
    the PMID's `Version`, `revised` the `DateRevised` as yyyymmdd (0: unknown); together they say which of two records
    of one PMID is the newer.
    """

    pmid: str
    title: str
    abstract: str
    version: int = 1
    revised: int = 0

    @property
    def text(self) -> str:
        """Title, blank, abstract; title or abstract alone where the other is empty."""
        return f"{self.title} {self.abstract}".strip()


@dataclass(frozen=True, slots=True)
class Deletion:
    """A PMID that a `DeleteCitation` list of the NLM withdraws."""

    pmid: str


@dataclass(frozen=True, slots=True)
class Span:
    """A mention: `text[start:end]` of its document, of an entity type ("" where the source names none).

    `identifier` is the concept's, as the source writes it. `fragments` are the (start, end) of a mention in several
    parts, in order, from `start` to `end`; empty for a mention in a single part. `score` in [0, 1] is a model's, None
    for a mention that people annotated.
    """

    start: int
    end: int
    type: str
    identifier: str = ""
    fragments: tuple[tuple[int, int], ...] = ()
    score: float | None = None

    @classmethod
    def over(
        cls, places: Iterable[tuple[int, int]], type: str, identifier: str = "", score: float | None = None
    ) -> "Span":
        """The mention at one or several (start, end)."""
        found = tuple(sorted(places))
        end = max(end for _, end in found)
        return cls(found[0][0], end, type, identifier, found if len(found) > 1 else (), score)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The (start, end) of its fragments, or of the whole mention in a single part."""
        return self.fragments or ((self.start, self.end),)


@dataclass(frozen=True, slots=True)
class Relation:
    """A typed relation between two mentions, by their places in the document's `spans`.

    Where a source relates other things than single mentions, `head` and `tail` are strings: the concepts' identifiers
    (PubTator), or the marks of a sentence without exactly one of each ("@GENE$").
    """

    head: int | str
    tail: int | str
    type: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question that the document answers, or is to answer.

    `answers` hold the accepted wordings of each answer; a list question has several answers, a yes/no question the
    answer "yes" or "no". `starts` are the places in the document's text where the answers' first wordings begin, one
    per answer, empty where the source gives none. `kind` is "factoid", "list", "yesno" or "summary". Several documents,
    one per snippet, may have the same question under one `id`.
    """

    text: str
    answers: tuple[tuple[str, ...], ...]
    id: str = ""
    starts: tuple[int, ...] = ()
    kind: str = "factoid"


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document's text, `text[start:end]`, that its source keeps apart; `type` is "title", "abstract" or
    what the source says, "" where it says nothing."""

    start: int
    end: int
    type: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its mentions, relations and questions.

    `tokenised`: the text is the words of a token file joined by single blanks, so that its words are
    `text.split(" ")`. `passages` are the parts of the text in order, blanks between them, where the source divides
    it; documents that differ in these alone are equal (`==`).
    """

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    relations: tuple[Relation, ...] = ()
    questions: tuple[Question, ...] = ()
    tokenised: bool = False
    passages: tuple[Passage, ...] = field(default=(), compare=False)
