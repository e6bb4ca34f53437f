"""A small synthetic language: tables of invented names and facts, and templates that state them, exactly annotated."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from typing import NamedTuple

from compactbio.documents import Document, Question, Relation, Span

PARTS = ("train", "test")
TYPES = {
    "drug": "Drug",
    "gene": "Gene",
    "marker": "Gene",
    "disease": "Disease",
    "effect": "Disease",
    "species": "Species",
    "other_drug": "Drug",
    "other_gene": "Gene",
    "other_disease": "Disease",
    "other_species": "Species",
}
"""Slot -> type of the names that fill it. An `other_` one has no fact with the names of the other slots."""
RELATIONS = {
    "treats": ("drug", "disease"),
    "induces": ("drug", "effect"),
    "targets": ("drug", "gene"),
    "associated_with": ("marker", "disease"),
    "causes": ("species", "disease"),
    "active_against": ("drug", "species"),
}
"""Relation -> slots of its head and its tail."""
SENTENCES = (2, 3)
"""Fewest and most sentences of a document."""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


class Fact(NamedTuple):
    """A relation between two names; in a template, between two slots."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True)
class Template:
    """A sentence with the facts that it states, or a question with the slot that answers it ("" for a sentence)."""

    text: str
    slots: frozenset[str]
    facts: tuple[Fact, ...]
    answer: str


@dataclass(frozen=True)
class World:
    """The names of a part by type, its facts, and the facts about each name, in the order of the tables."""

    names: dict[str, list[str]]
    facts: list[Fact]
    about: dict[str, list[Fact]]


@cache
def world(part: str) -> World:
    """The names and facts of a part, `train` or `test`, which share none. ValueError for another part."""
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    names: dict[str, list[str]] = {}
    for type_, own, name in _rows("names.tsv"):
        if own == part:
            names.setdefault(type_, []).append(name)
    about: dict[str, list[Fact]] = {name: [] for group in names.values() for name in group}
    facts = [fact for fact in map(Fact._make, _rows("facts.tsv")) if fact.head in about]
    for fact in facts:
        about[fact.head].append(fact)
        about[fact.tail].append(fact)
    return World(names, facts, about)


@cache
def templates() -> tuple[Template, ...]:
    """All templates, in the order of their file."""
    found = []
    for line in _lines("templates.txt"):
        text, _, rest = line.partition(" => ")
        answer = rest if text.endswith("?") else ""
        facts = () if answer else tuple(Fact(*fact.split()) for fact in rest.split("; ") if rest)
        found.append(Template(text, frozenset(_SLOT.findall(text)) - {"n"}, facts, answer))
    return tuple(found)


def documents(count: int, part: str = "train", seed: int = 0) -> Iterator[Document]:
    """`count` documents of a part with mentions, relations and questions.

    Document i is a pure function of (part, seed, i). Every name in the text is a mention; relations and answers are
    what a sentence states. ValueError for another part than `train` and `test`.
    """
    own = world(part)
    return (_document(own, f"synthetic-{part}-{seed}-{i:05d}") for i in range(count))


def _document(own: World, name: str) -> Document:
    random = Random(name)  # a string is hashed the same in every process
    context = _context(own, random)
    text, spans, relations = "", list[Span](), list[Relation]()
    stated: dict[frozenset[str], dict[str, Span]] = {}
    for template in _chosen(own, context, random):
        text += " " if text else ""
        places: dict[str, int] = {}
        for piece, slot in _pieces(template.text, context, random):
            if slot in TYPES:
                places[slot] = len(spans)
                spans.append(Span(len(text), len(text) + len(piece), TYPES[slot]))
            text += piece
        for head, relation, tail in template.facts:
            relations.append(Relation(places[head], places[tail], relation))
            stated.setdefault(frozenset({head, tail}), {slot: spans[places[slot]] for slot in (head, tail)})
    questions: list[Question] = []
    for template in templates():
        if template.answer and (answers := stated.get(template.slots | {template.answer})):
            asked = "".join(piece for piece, _ in _pieces(template.text, context, random))
            span = answers[template.answer]
            answer = ((text[span.start : span.end],),)
            questions.append(Question(asked, answer, f"{name}-{len(questions)}", (span.start,)))
    return Document(name, text, tuple(spans), tuple(relations), tuple(questions))


def _context(own: World, random: Random) -> dict[str, str]:
    """Slot -> name, each name once: facts that join one another, and names that have nothing to do with them."""
    first = random.choice(own.facts)
    context = dict(zip(RELATIONS[first.relation], (first.head, first.tail), strict=True))
    for relation in random.sample(list(RELATIONS), len(RELATIONS)):
        head, tail = RELATIONS[relation]
        taken = {name for slot, name in context.items() if slot not in (head, tail)}
        fitting = [
            fact
            for fact in own.about[context.get(head) or context.get(tail) or first.head]
            if fact.relation == relation
            and context.get(head, fact.head) == fact.head
            and context.get(tail, fact.tail) == fact.tail
            and taken.isdisjoint((fact.head, fact.tail))
        ]
        if fitting:
            fact = random.choice(fitting)
            context |= {head: fact.head, tail: fact.tail}
    near = {name for one in context.values() for fact in own.about[one] for name in (fact.head, fact.tail)}
    for slot, type_ in TYPES.items():
        if slot.startswith("other_"):
            context[slot] = random.choice([name for name in own.names[type_] if name not in near])
    return context


def _chosen(own: World, context: dict[str, str], random: Random) -> list[Template]:
    """The sentences of a document: all but one state facts, where there are so many."""
    usable = [one for one in templates() if not one.answer and one.slots <= context.keys()]
    stating = [one for one in usable if one.facts and all(_holds(own, context, fact) for fact in one.facts)]
    silent = [one for one in usable if not one.facts]
    count = random.randint(*SENTENCES)
    chosen = random.sample(stating, min(len(stating), count - 1))
    chosen += random.sample(silent, count - len(chosen))
    return random.sample(chosen, len(chosen))


def _holds(own: World, context: dict[str, str], fact: Fact) -> bool:
    head = context[fact.head]
    return Fact(head, fact.relation, context[fact.tail]) in own.about[head]


def _pieces(text: str, context: dict[str, str], random: Random) -> Iterator[tuple[str, str]]:
    """A template's text in pieces, each with the slot that it fills ("" for plain text); it begins with a capital."""
    text = _CHOICE.sub(lambda match: random.choice(match[1].split("|")), text)
    first = True
    for i, part in enumerate(_SLOT.split(text)):
        slot = part if i % 2 else ""
        piece = str(random.randint(2, 98)) if slot == "n" else context[slot] if slot else part
        if piece:
            yield piece[:1].upper() + piece[1:] if first else piece, slot
            first = False


def _rows(file: str) -> list[list[str]]:
    return [line.split("\t") for line in _lines(file)[1:]]


def _lines(file: str) -> list[str]:
    text = (resources.files("compactbio.demo") / file).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
