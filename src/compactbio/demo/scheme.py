"""A kind of abstract as data; the files of schemes hold the kinds there are."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from compactbio.demo.rendering import Context


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of abstract: `parts` are (fewest, most, templates) in order, `questions` (text, answer slot).

    A question with `{!slot}` is asked only where the text does not hold that slot.
    """

    name: str
    case: Callable[[Random, str], Context]
    titles: tuple[str, ...]
    parts: tuple[tuple[int, int, tuple[str, ...]], ...]
    questions: tuple[tuple[str, str], ...]
