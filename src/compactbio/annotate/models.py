"""What the annotators share: a fine-tuned model, loaded and checked; and inputs, one, many, or a stream of them."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.documents.tags import tagged_types
from compactbio.errors import UserError, check_count, check_counts, plain, without_content
from compactbio.evaluation import scoring
from compactbio.modeling import hardware, loading, runtimes
from compactbio.modeling.loading import Source
from compactbio.modeling.onnx import batches
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import Portable, Runtime
from compactbio.tasks import calibration_file, relation
from compactbio.tasks.registry import TASKS
from compactbio.tasks.relation_classes import Scheme
from compactbio.tasks.settings import Decoding, decoding, has_independent_outputs, unknown_words

Result = TypeVar("Result")
Input = TypeVar("Input")
Found = TypeVar("Found")
Logits = list[NDArray[np.float32]]
_PRECISION = "min_precision"
_LOGGER = logging.getLogger("compactbio.annotate")


class LoadOptions(TypedDict, total=False):
    """How a model is loaded; each option as for `Annotator.from_pretrained`."""

    runtime: str
    device: str
    threads: int | None
    tokens_per_batch: int | None
    min_precision: float | None


@dataclass(frozen=True)
class Scoring:
    """How a model's scores are computed, and which are high enough.

    `min_scores` are the lowest scores by type that keep the precision asked for: infinite where none does, empty where
    none was asked for.
    """

    temperature: float = 1.0  # what logits are divided by (see `tasks.calibration`); 1 without a calibration
    min_scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # sentences on a calibration that is not used, and on types that are left out

    def lowest(self, kind: str) -> float:
        """The lowest score of a type, as the model names it."""
        return self.min_scores.get(kind, 0.0)


@dataclass(frozen=True)
class LoadedModel:
    """A fine-tuned model that is ready to annotate."""

    name: str  # its public one
    runtime: Runtime
    tokenizer: PreTrainedTokenizerFast
    labels: tuple[str, ...]  # in the order of their ids; none for questions
    max_length: int  # tokens of a row, as in its fine-tuning
    stride: int  # tokens that neighbouring windows share
    scheme: Scheme | None = None  # which labels of a relation model stand for no relation; None for other tasks
    independent: bool = False  # whether several classes of a relation model may hold at once
    joined: frozenset[str] = frozenset()  # the neighbourhoods in which a sign stays in its word (NER)
    warning: str | None = None  # a sentence where an NER model does not say how its words were cut
    tokens_per_batch: int | None = None  # that are computed together at most; None leaves it to the runtime
    scoring: Scoring = Scoring()
    decoding: Decoding = field(default_factory=Decoding)  # how the logits of an NER model become tags

    def warn(self) -> None:
        """Log what a user should know of its words and its scores."""
        for sentence in (self.warning, *self.scoring.notes):
            if sentence:
                _LOGGER.warning(sentence)

    def logits(self, rows: Sequence[Row]) -> Logits:
        """The logits of each row, in the rows' order (shapes: see `Runtime`)."""
        return last_value(self.logits_in_steps(rows))

    def logits_in_steps(self, rows: Sequence[Row], tokens: int | None = None) -> Generator[None, None, Logits]:
        """The same, with a yield after each batch of at most `tokens` tokens; None: of `tokens_per_batch`."""
        tokens = tokens or self.tokens_per_batch
        if tokens is None:
            return self.runtime.logits(rows)
        found: Logits = [np.empty(0, dtype=np.float32)] * len(rows)
        for places in batches([len(row) for row in rows], tokens):
            for place, logits in zip(places, self.runtime.logits([rows[place] for place in places]), strict=True):
                found[place] = logits
            yield
        return found


def load_model(
    name: str | Path,
    task: str,
    *,
    runtime: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    tokens_per_batch: int | None = None,
    min_precision: float | None = None,
) -> LoadedModel:
    """Load a model, by local folder or hub name, that is fine-tuned for `task` ("ner", "relation" or "qa").

    Raises UserError for a model of another task, without labels, or that cannot be read.
    """
    threads, tokens_per_batch = check_counts(threads=threads, tokens_per_batch=tokens_per_batch)
    source, labels = find_model(name, task, runtime)
    config, public_name = source.config, source.public_name()
    with hardware.on_device(device):
        chosen = runtimes.chosen(source, runtime, threads)
    scored = scoring_of(source, chosen, min_precision)
    loaded = Portable(source, chosen, threads, device)
    settings = scoring.settings_of(source, task)
    length = min(settings.max_length, loaded.longest or settings.max_length)
    classes = relation.scheme_of_model(labels, config, source.name) if task == "relation" else None
    joined = frozenset(settings.joined_signs or ())
    warning = unknown_words(config, public_name) if task == "ner" else None
    return LoadedModel(
        public_name, loaded, loading.tokenizer_of(source), tuple(labels), length, settings.stride, classes,
        has_independent_outputs(config), joined, warning, tokens_per_batch, scored, decoding(config),
    )  # fmt: skip


def find_model(name: str | Path, task: str, runtime: str) -> tuple[Source, list[str]]:
    """A model and its labels, without loading it. Raises UserError for one of another task, or without labels."""
    source = runtimes.find(name, runtime)
    if (found := runtimes.task_of(source)) != task:
        raise UserError(f"{source.name} is fine-tuned for {found}; name a model that is fine-tuned for {task}.")
    return source, TASKS[task].model_labels(source.config, source.name, [])


def scoring_of(source: Source, runtime: str, min_precision: float | None = None) -> Scoring:
    """How a fine-tuned model's scores on a runtime are computed, and which keep a precision.

    Raises UserError where a precision is asked for that is not in (0, 1], or of a model without a calibration.
    """
    if min_precision is not None and not (_is_in(min_precision, 0, 1) and min_precision > 0):
        raise UserError(f"min_precision is {min_precision!r}; it must be above 0 and at most 1.", setting=_PRECISION)
    min_precision = plain(min_precision)
    task, name = runtimes.task_of(source), source.public_name()
    if task == "qa":
        if min_precision is None:
            return Scoring()
        raise UserError(
            f"{name} answers questions, whose scores have no precision: leave min_precision out.", setting=_PRECISION
        )
    found, note = calibration_file.find(source, runtime)
    if min_precision is None:
        return Scoring(found.temperature if found else 1.0, {}, (note,) if note else ())
    if found is None:
        lacking = note or f"{name} has no calibration on {runtime}, so no score is known to keep a precision."
        raise UserError(
            f"{lacking.removesuffix('.')}: run `compactbio evaluate DATA --model {source.name} --split devel "
            f"--runtime {runtime} --calibrate` first, with data that it was not trained on.",
            setting=_PRECISION,
        )
    labels = TASKS[task].model_labels(source.config, source.name, [])
    if task == "ner":
        kinds = sorted(tagged_types(labels))
    else:
        negatives = relation.scheme_of_model(labels, source.config, source.name).negatives
        kinds = [label for label in labels if label not in negatives]
    notes = tuple(
        f"{name} gives no {kind or 'mention'} at a precision of {min_precision:g}: {why}."
        for kind in kinds
        if (why := found.shortfall(kind, min_precision))
    )
    return Scoring(found.temperature, {kind: found.score_for(kind, min_precision) for kind in kinds}, notes)


def last_value(steps: Generator[None, None, Result]) -> Result:
    """What a generator returns after its last step."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class InputAnnotator(ABC, Generic[Input, Found]):
    """Takes one input or any iterable of them, and finds a list of results in each."""

    _types: ClassVar[tuple[type, ...]]
    _noun: ClassVar[str]
    _highest: ClassVar[float] = 1.0  # score

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
            UserError: Where an input is of another type; it is named by its place. For a score that none can have.
        """
        min_score = check_score(min_score, self._highest)
        if self._is_one(inputs):
            return self._find([self._checked(inputs, 0)], min_score)[0]
        return self._find(list(self._each(inputs)), min_score)

    def stream(
        self, inputs: Iterable[Input], *, min_score: float = 0.0, batch_size: int = 128
    ) -> Iterator[list[Found]]:
        """What is found in each input as it is ready, in their order; memory does not grow with their number.

        Args:
            inputs: Any iterable of inputs, which is read once, a batch at a time.
            min_score: The lowest score of a result.
            batch_size: Inputs that are read and computed together, 1 or more.

        Raises:
            UserError: Where an input is of another type, when it is reached. For a score that none can have.
        """
        min_score = check_score(min_score, self._highest)
        given = batched(self._each(inputs), batch_size)
        return (found for batch in given for found in self._find(batch, min_score))

    def _is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, self._types)

    def _each(self, inputs: Iterable[Input]) -> Iterator[Input]:
        given = elements_of(inputs, self._types, self._noun)
        return (self._checked(one, place) for place, one in enumerate(given))

    def _checked(self, one: Input, place: int) -> Input:
        """An input of the right type, at this place among all. Raises UserError for what is wrong within it."""
        return one

    @abstractmethod
    def _find(self, inputs: list[Input], min_score: float) -> list[list[Found]]:
        """What is found in each of the inputs, which are checked."""


def elements_of(given: Iterable[Input], types: tuple[type, ...], noun: str) -> Iterator[Input]:
    """The elements of a list, a generator, a column of a table or an array of one axis, each checked as it is read.

    Raises UserError at once for what holds no elements and for a mapping, and for an element of none of the `types`
    when it is reached, named by its place; `noun` says what an element is ("text").
    """
    wanted = f"Give a list of {noun}s, not {without_content(given)}"
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
    """The element, of one of the types. Raises UserError, without the content, for another one."""
    if not isinstance(element, types):
        raise UserError(f"{name} is {without_content(element)}; give {' or '.join(one.__name__ for one in types)}.")
    return element


def check_score(lowest: Any, highest: float = 1.0) -> float:
    """The lowest score of a result. Raises UserError where it is not a number from 0 to the highest that there is."""
    if not _is_in(lowest, 0, highest):
        limit = "0 or more" if highest == inf else f"from 0 to {highest:g}"
        raise UserError(f"min_score is {lowest!r}; it must be a number {limit}.", setting="min_score")
    return float(lowest)


def _is_in(value: Any, lowest: float, highest: float) -> bool:
    return isinstance(value, Real) and lowest <= float(value) <= highest


def batched(elements: Iterator[Input], size: int) -> Iterator[list[Input]]:
    """The elements in lists of `size`, the last one perhaps shorter. Raises UserError for a size below 1."""
    size = check_count("batch_size", size)
    return iter(lambda: list(islice(elements, size)), [])
