"""Tags of words (IOB1, IOB2, IOBES, BILOU; typed `B-Disease` or bare `B`) and the mentions that they mark."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

_PREFIXES = frozenset("BIOESLU")
# E and S of IOBES are L and U of BILOU.
_LAST = frozenset("ESLU")
_IN_IOB2 = {"S": "B", "U": "B", "E": "I", "L": "I"}


class Chunk(NamedTuple):
    """A mention over words: `words[start:end]`, of a type ("" where the tags are bare)."""

    start: int
    end: int
    type: str


def is_tag(column: str) -> bool:
    """Whether a column is a tag of one of the known schemes."""
    return column.partition("-")[0] in _PREFIXES


def parse(tag: str) -> tuple[str, str]:
    """The prefix and type of a tag; everything that begins with `O` is outside, whatever follows (`O-MISC`).

    Raises ValueError for a tag of no known scheme.
    """
    prefix, _, kind = tag.partition("-")
    if prefix not in _PREFIXES:
        raise ValueError(f"{tag!r} is not a tag of IOB1, IOB2, IOBES or BILOU")
    return (prefix, "") if prefix == "O" else (prefix, kind)


def in_iob2(tag: str) -> str:
    """The tag of IOB2 for a word's place in its mention: `S` and `U` begin one, `E` and `L` are inside of one.

    Raises ValueError as `parse` does.
    """
    prefix, kind = parse(tag)
    return "-".join(filter(None, (_IN_IOB2.get(prefix, prefix), kind)))


def tagged_types(labels: Iterable[str]) -> set[str]:
    """The types of mentions that tags name. Raises ValueError as `parse` does."""
    return {parse(label)[1] for label in labels if label != "O"}


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The mentions of a sentence by the rules of conlleval: an `I` without a beginning, or of another type, begins one.

    One rule serves all schemes. Raises ValueError as `parse` does. Source: conlleval.pl of CoNLL-2000, which decides
    by the prefixes and types of neighbouring tags alone.
    """
    found: list[Chunk] = []
    start: int | None = None
    last, kind = "O", ""
    for i, tag in enumerate([*tags, "O"]):
        prefix, type_ = parse(tag)
        continues = prefix in "IEL" and last not in _LAST and type_ == kind
        if start is not None and not continues:
            found.append(Chunk(start, i, kind))
            start = None
        if start is None and prefix != "O":
            start = i
        last, kind = prefix, type_
    return found


def strict_chunks(tags: Sequence[str]) -> list[Chunk]:
    """The mentions of an IOB2 sentence that begin with `B`; an `I` that continues nothing belongs to none."""
    return [chunk for chunk in chunks(tags) if parse(tags[chunk.start])[0] == "B"]


def iob2(mentions: Iterable[Chunk], length: int) -> list[str]:
    """The IOB2 tags of a sentence of `length` words; of overlapping mentions the first, then the longest, is kept."""
    tags = ["O"] * length
    free = 0
    for start, end, kind in sorted(mentions, key=lambda m: (m[0], -m[1])):
        if start < free:
            continue
        suffix = f"-{kind}" if kind else ""
        tags[start:end] = [f"B{suffix}"] + [f"I{suffix}"] * (end - start - 1)
        free = end
    return tags


def repaired(tags: Sequence[str]) -> list[str]:
    """The same mentions in valid IOB2: what begins with `I` begins with `B`."""
    return iob2(chunks(tags), len(tags))
