"""What the annotators share: one input or several, each checked, computed at once or as a stream of batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar, overload

from compactbio.errors import UserError

Input = TypeVar("Input")
Found = TypeVar("Found")


class InputAnnotator(ABC, Generic[Input, Found]):
    """Takes one input or any iterable of them, and finds a list of results in each."""

    _types: ClassVar[tuple[type, ...]]
    _noun: ClassVar[str]

    @overload
    def __call__(self, inputs: Input, *, min_score: float = 0.0) -> list[Found]: ...
    @overload
    def __call__(self, inputs: Iterable[Input], *, min_score: float = 0.0) -> list[list[Found]]: ...
    def __call__(self, inputs: Any, *, min_score: float = 0.0) -> list[Found] | list[list[Found]]:
        """What is found in an input, or in each of several.

        Args:
            inputs: One input, or any iterable of them, which is read once.
            min_score: The lowest score of a result.

        Raises:
            UserError: Where an input is of another type; it is named by its place.
        """
        if self._is_one(inputs):
            return self._find([inputs], min_score)[0]
        return self._find(list(elements_of(inputs, self._types, self._noun)), min_score)

    def stream(
        self, inputs: Iterable[Input], *, min_score: float = 0.0, batch_size: int = 128
    ) -> Iterator[list[Found]]:
        """What is found in each input as it is ready, in their order; memory does not grow with their number.

        Args:
            inputs: Any iterable of inputs, which is read once, a batch at a time.
            min_score: The lowest score of a result.
            batch_size: Inputs that are read and computed together, 1 or more.

        Raises:
            UserError: Where an input is of another type, at its turn.
        """
        given = batched(elements_of(inputs, self._types, self._noun), batch_size)
        return (found for batch in given for found in self._find(batch, min_score))

    def _is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, self._types)

    @abstractmethod
    def _find(self, inputs: list[Input], min_score: float) -> list[list[Found]]:
        """What is found in each of the inputs, whose types are right."""


def elements_of(given: Iterable[Input], types: tuple[type, ...], noun: str) -> Iterator[Input]:
    """The elements of a list, a generator, a column of a table or an array of one axis, each checked as it is read.

    Raises UserError at once for what holds no elements and for a mapping, and at its turn for an element of none of the
    `types`, which is named by its place; `noun` says what an element is ("text").
    """
    wanted = f"Give a list of {noun}s, not {_with_article(given)}"
    if isinstance(given, (str, bytes, Mapping)) or getattr(given, "ndim", 1) != 1:
        raise UserError(f"{wanted}: [{noun}] for one alone.")
    try:
        elements = iter(given)
    except TypeError:
        raise UserError(f"{wanted}.") from None
    return (
        check_type(element, types, f"{noun.capitalize()} {place} (counted from 0)")
        for place, element in enumerate(elements)
    )


def check_type(element: Input, types: tuple[type, ...], name: str) -> Input:
    """The element, of one of the types. The message on another one leaves out its content, which may be a patient's."""
    if not isinstance(element, types):
        raise UserError(f"{name} is {_with_article(element)}; give {' or '.join(one.__name__ for one in types)}.")
    return element


def batched(elements: Iterator[Input], size: int) -> Iterator[list[Input]]:
    """The elements in lists of `size`, the last one perhaps shorter. Raises UserError for a size below 1."""
    if size < 1:
        raise UserError(f"batch_size is {size}; it must be 1 or more.", setting="batch_size")
    return iter(lambda: list(islice(elements, size)), [])


def _with_article(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
