"""Fine-tuned models as annotators hold them: found, checked for their task, and loaded on a runtime and a device."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.errors import UserError
from compactbio.evaluation import scoring
from compactbio.modeling import hardware, loading, runtimes
from compactbio.modeling.onnx import batches
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import Portable, Runtime
from compactbio.tasks.model_config import has_independent_outputs, unknown_words
from compactbio.tasks.registry import TASKS
from compactbio.tasks.relation_classes import Scheme, scheme

Result = TypeVar("Result")
Logits = list[NDArray[np.float32]]


class LoadOptions(TypedDict, total=False):
    """How a model is loaded; each option as for `Annotator.from_pretrained`."""

    runtime: str
    device: str
    threads: int | None
    tokens_per_batch: int | None


@dataclass(frozen=True)
class LoadedModel:
    """A fine-tuned model that is ready to annotate.

    Attributes:
        name: Its public name.
        runtime: What computes its logits.
        tokenizer: Its tokenizer.
        labels: Its labels in the order of their ids; none for questions.
        max_length: Tokens of a row, as in its fine-tuning.
        stride: Tokens that neighbouring windows share.
        scheme: Which labels of a relation model stand for no relation; None for other tasks.
        independent: Whether several classes of a relation model may hold at once.
        joined: The neighbourhoods in which a sign stays in its word (NER).
        warning: A sentence where an NER model does not say how its words were cut.
        tokens_per_batch: Tokens that are computed together at most; None leaves it to the runtime.
    """

    name: str
    runtime: Runtime
    tokenizer: PreTrainedTokenizerFast
    labels: tuple[str, ...]
    max_length: int
    stride: int
    scheme: Scheme | None = None
    independent: bool = False
    joined: frozenset[str] = frozenset()
    warning: str | None = None
    tokens_per_batch: int | None = None

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


def load_model(name: str | Path, task: str, **options: Unpack[LoadOptions]) -> LoadedModel:
    """Load a model, by local folder or hub name, that is fine-tuned for `task` ("ner", "relation" or "qa").

    Raises UserError for a model of another task, without labels, or that cannot be read.
    """
    runtime, device = options.get("runtime", "auto"), options.get("device", "auto")
    threads, tokens = options.get("threads"), options.get("tokens_per_batch")
    if tokens is not None and tokens < 1:
        raise UserError(f"tokens_per_batch is {tokens}; it must be 1 or more.", setting="tokens_per_batch")
    source = runtimes.find(name, runtime)
    if (found := runtimes.task_of(source)) != task:
        raise UserError(f"{name} is fine-tuned for {found}; name a model that is fine-tuned for {task}.")
    labels = TASKS[task].model_labels(source.config, source.name, [])
    with hardware.on_device(device):
        chosen = runtimes.chosen(source, runtime, threads)
    loaded = Portable(source, chosen, threads, device)
    settings = scoring.settings_of(source, task)
    return LoadedModel(
        source.public_name(),
        loaded,
        loading.tokenizer_of(source),
        tuple(labels),
        min(settings.max_length, loaded.longest or settings.max_length),
        settings.stride,
        scheme(labels, settings.negative, settings.scheme) if task == "relation" else None,
        has_independent_outputs(source.config),
        frozenset(settings.joined_signs or ()),
        unknown_words(source.config, source.public_name()) if task == "ner" else None,
        tokens,
    )


def split_type(name: str) -> tuple[str, str]:
    """The type that "TYPE=MODEL" gives the mentions of a model without types, and the model; a path is a model."""
    kind, separator, model = name.partition("=")
    return (kind, model) if separator and not Path(name).exists() else ("", name)


def last_value(steps: Generator[None, None, Result]) -> Result:
    """What a generator returns after its last step."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
