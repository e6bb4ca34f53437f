"""Writes sentences from templates, keeping the place of every name as it goes down.

A template is text with `{slot}` and `[one|another|]` in it, and may end in ` => drug treats disease; ...`:
- `{drug}` writes what the context holds; an entity with an abbreviation is introduced with it, then called by it;
- `{drug.full}` writes the full name and introduces nothing; `{a:family}` puts the right article before;
- `{?flag}` writes nothing, but the template (or the branch) is open only where the context has the flag;
- a bracket takes one of its branches, of those whose slots the context has;
- the facts after `=>` become relations where both ends were named in that sentence.
"""

from dataclasses import dataclass, field
from functools import cache
from random import Random

from compactbio.documents import Relation, Span


@dataclass(frozen=True, slots=True)
class Entity:
    """A name with its type, and its abbreviation ("" for none)."""

    name: str
    type: str
    short: str = ""


Context = dict[str, str | Entity]


@dataclass(frozen=True, slots=True)
class _Slot:
    name: str
    mode: str  # "", "full", "a" or "?"


@dataclass(frozen=True, slots=True)
class _Choice:
    branches: tuple["_Sequence", ...]


_Sequence = tuple[str | _Slot | _Choice, ...]


@dataclass(frozen=True, slots=True)
class _Template:
    body: _Sequence
    facts: tuple[tuple[str, str, str], ...]  # head slot, type, tail slot


@cache
def _parsed(template: str) -> _Template:
    text, _, tail = template.partition(" => ")
    facts = tuple((head, kind, end) for head, kind, end in (fact.split() for fact in tail.split(";") if fact.strip()))
    branches, rest = _branches(text, 0)
    if rest != len(text) or len(branches) != 1:
        raise ValueError(f"brackets do not match in the template {template!r}")
    return _Template(branches[0], facts)


def _branches(text: str, at: int) -> tuple[tuple[_Sequence, ...], int]:
    """The branches up to the closing bracket or the end of the text, and the place behind them."""
    branches: list[_Sequence] = []
    items: list[str | _Slot | _Choice] = []
    while at < len(text) and text[at] != "]":
        if text[at] == "|":
            branches.append(tuple(items))
            items = []
            at += 1
        elif text[at] == "[":
            inner, at = _branches(text, at + 1)
            items.append(_Choice(inner))
            at += 1
        elif text[at] == "{":
            close = text.index("}", at)
            items.append(_slot(text[at + 1 : close]))
            at = close + 1
        else:
            start = at
            while at < len(text) and text[at] not in "[]{|":
                at += 1
            items.append(text[start:at])
    return (*branches, tuple(items)), at


def _slot(text: str) -> _Slot:
    if text.startswith("?"):
        return _Slot(text[1:], "?")
    if text.startswith("a:"):
        return _Slot(text[2:], "a")
    name, _, mode = text.partition(".")
    return _Slot(name, mode)


def _open(sequence: _Sequence, context: Context) -> bool:
    for item in sequence:
        if isinstance(item, _Slot) and item.name not in context:
            return False
        if isinstance(item, _Choice) and not any(_open(branch, context) for branch in item.branches):
            return False
    return True


def fits(template: str, context: Context) -> bool:
    """Whether the context has all that the template cannot do without."""
    return _open(_parsed(template).body, context)


def article(text: str) -> str:
    """`a` or `an`, as the text is spoken: an 82-year-old, an EGFR mutation, a uremic, a one-year."""
    first = text.split()[0]
    if first[0].isdigit():
        return "an" if first[0] == "8" or first[:2] in {"11", "18"} else "a"
    if len(first) > 1 and first[:2].isupper():
        return "an" if first[0] in "AEFHILMNORSX" else "a"
    if first.lower().startswith(("uni", "ura", "ure", "uri", "uro", "eu", "one")):
        return "a"
    return "an" if first[0].lower() in "aeiou" else "a"


@dataclass(slots=True)
class Page:
    """A text in the making. `spans[i]` is a mention of `entities[i]`; `written` are the slots that came to be used."""

    text: str = ""
    spans: list[Span] = field(default_factory=list)
    entities: list[Entity] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    _introduced: set[str] = field(default_factory=set)

    def write(self, template: str, context: Context, random: Random, title: bool = False) -> None:
        """One sentence more, with a blank before it. KeyError if the context lacks a slot (see `fits`)."""
        parsed = _parsed(template)
        named: dict[str, int] = {}
        if self.text:
            self.text += " "
        start = len(self.text)
        self._sequence(parsed.body, context, random, title, named)
        self.text = self.text[:start] + self.text[start : start + 1].upper() + self.text[start + 1 :]
        for head, kind, tail in parsed.facts:
            if head in named and tail in named:
                self.relations.append(Relation(named[head], named[tail], kind))

    def wordings(self, entity: Entity) -> tuple[str, ...]:
        """How the text calls the entity, each wording once, with the case of the lexicon where the text has it."""
        found: dict[str, str] = {}
        for span, other in zip(self.spans, self.entities, strict=True):
            if other == entity:
                wording = self.text[span.start : span.end]
                if wording in (entity.name, entity.short) or wording.casefold() not in found:
                    found[wording.casefold()] = wording
        return tuple(found.values())

    def _sequence(
        self, sequence: _Sequence, context: Context, random: Random, title: bool, named: dict[str, int]
    ) -> None:
        for item in sequence:
            if isinstance(item, str):
                self._append(item)
            elif isinstance(item, _Choice):
                branches = [branch for branch in item.branches if _open(branch, context)]
                self._sequence(random.choice(branches), context, random, title, named)
            elif item.mode != "?":
                self._fill(item, context[item.name], random, title, named)

    def _fill(self, slot: _Slot, value: str | Entity, random: Random, title: bool, named: dict[str, int]) -> None:
        self.written.add(slot.name)
        if slot.mode == "a":
            self._append(article(value if isinstance(value, str) else value.name) + " ")
        if isinstance(value, str):
            self._append(value)
            return
        named.setdefault(slot.name, len(self.spans))
        if title or slot.mode in {"full", "a"} or not value.short:
            self._mention(value.name, value)
        elif value.name not in self._introduced:
            self._introduced.add(value.name)
            self._mention(value.name, value)
            self._append(" (")
            self._mention(value.short, value)
            self._append(")")
        else:
            self._mention(value.short if random.random() < 0.8 else value.name, value)

    def _mention(self, wording: str, entity: Entity) -> None:
        start = len(self.text)
        self.text += wording
        self.spans.append(Span(start, len(self.text), entity.type))
        self.entities.append(entity)

    def _append(self, text: str) -> None:
        """Plain text; a branch left empty must not leave two blanks, or a blank before a full stop."""
        if self.text.endswith(" "):
            if text.startswith(" "):
                text = text[1:]
            elif text.startswith((".", ",")):
                self.text = self.text[:-1]
        self.text += text
