"""What a caller gives an annotator: one element or several, of the right kind, as text that every tokenizer takes."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from compactbio.errors import UserError

Element = TypeVar("Element")


def elements_of(given: Iterable[Element], kinds: type | tuple[type, ...], noun: str) -> Iterator[Element]:
    """The elements of a list, a generator, a column of a table or an array of one axis, each checked as it is read.

    Args:
        given: What the caller gave; read once.
        kinds: The types that an element may have.
        noun: What an element is, for messages ("text").

    Raises:
        UserError: At once for what holds no elements, and for a mapping; at its turn for an element of another type,
            which is named by its place.
    """
    wanted = f"Give a list of {noun}s, not {_with_article(given)}"
    if isinstance(given, (str, bytes, Mapping)) or getattr(given, "ndim", 1) != 1:
        raise UserError(f"{wanted}: [{noun}] for one alone.")
    try:
        elements = iter(given)
    except TypeError:
        raise UserError(f"{wanted}.") from None
    return _checked(elements, kinds, noun)


def _checked(elements: Iterator[Element], kinds: type | tuple[type, ...], noun: str) -> Iterator[Element]:
    for place, element in enumerate(elements):
        check_type(element, kinds, f"{noun.capitalize()} {place} (counted from 0)")
        yield element


def batched(elements: Iterator[Element], size: int) -> Iterator[list[Element]]:
    """The elements in lists of `size`, the last one perhaps shorter. Raises UserError for a size below 1."""
    if size < 1:
        raise UserError(f"batch_size is {size}; it must be 1 or more.", setting="batch_size")
    return iter(lambda: list(islice(elements, size)), [])


def check_type(element: Any, kinds: type | tuple[type, ...], name: str) -> None:
    """Refuse an element of another type; its content, which may be a patient's, is not in the message."""
    if not isinstance(element, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        raise UserError(f"{name} is {_with_article(element)}; give {' or '.join(one.__name__ for one in wanted)}.")


def _with_article(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
