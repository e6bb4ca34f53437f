"""What callers give to be annotated: any iterable, every element of the kind that is asked for."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from compactbio.errors import UserError

Kind = TypeVar("Kind")
_SURROGATE = re.compile("[\ud800-\udfff]")


def listed(given: Iterable[Kind], kinds: type[Kind] | tuple[type[Kind], ...], noun: str) -> list[Kind]:
    """The elements of `given`, which is read once: a list, a generator, a column of a table, an array of one axis.

    Raises UserError for what is one element and not several, for a mapping, and for an element of another kind, which
    is named by its place; `noun` says what is wanted ("text").
    """
    if isinstance(given, (str, bytes, Mapping)) or getattr(given, "ndim", 1) != 1:
        raise UserError(f"Give a list of {noun}s, not {_article(given)}: [{noun}] for one alone.")
    try:
        elements = list(given)
    except TypeError:
        raise UserError(f"Give a list of {noun}s, not {_article(given)}.") from None
    for place, element in enumerate(elements):
        check(element, kinds, f"{noun.capitalize()} {place} (counted from 0)")
    return elements


def check(element: Any, kinds: type | tuple[type, ...], name: str) -> None:
    """Refuse an element of another kind, without its content, which may be a patient's."""
    if not isinstance(element, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        raise UserError(f"{name} is {_article(element)}; give {' or '.join(one.__name__ for one in wanted)}.")


def whole(text: str) -> str:
    """The text with U+FFFD, one character as well, for each half of a surrogate pair, which no tokenizer takes."""
    return _SURROGATE.sub("\ufffd", text)


def _article(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
