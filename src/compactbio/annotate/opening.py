"""From a name to a fine-tuned model that is ready to run."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from compactbio.annotate.portable import Portable
from compactbio.deploy import choosing, runtimes
from compactbio.deploy.runtimes import Runtime
from compactbio.errors import UserError
from compactbio.tasks.scheme import Scheme, scheme
from compactbio.training import evaluating, loading
from compactbio.training.adapters import independent, labels_of


@dataclass(frozen=True)
class Opened:
    """A model of a task: `labels` in the order of their ids, none for questions; lengths in tokens, as in its run.

    `scheme` says of a relation model's labels which are of no relation, `independent` whether several of them may hold.
    """

    name: str
    runtime: Runtime
    tokenizer: PreTrainedTokenizerFast
    labels: tuple[str, ...]
    max_length: int
    stride: int
    scheme: Scheme | None = None
    independent: bool = False


def parted(name: str) -> tuple[str, str]:
    """The type that "TYPE=MODEL" gives the mentions of a model without types, and the model; a path is a model."""
    kind, separator, model = name.partition("=")
    return (kind, model) if separator and not Path(name).exists() else ("", name)


def opened(name: str, task: str, runtime: str, threads: int | None) -> Opened:
    """Open a model by local folder or hub name; `runtime` is one of `runtimes.NAMES`, "auto" or "fastest" (see
    `choosing.chosen`).

    Raises UserError for a model of another task, without labels, or that cannot be read.
    """
    source = runtimes.find(name, runtime)
    own = runtimes.task_of(source)
    if own != task:
        raise UserError(f"{name} is fine-tuned for {own}; name a model that is fine-tuned for {task}.")
    labels = labels_of(source.config, source.name, task)
    loaded = Portable(source, choosing.chosen(source, runtime, threads), threads)
    settings = evaluating.settings_of(source, task)
    return Opened(
        source.public_name(),
        loaded,
        loading.tokenizer_of(source),
        tuple(labels),
        min(settings.max_length, loaded.longest or settings.max_length),
        settings.stride,
        scheme(labels, settings.negative, settings.scheme) if task == "relation" else None,
        independent(source.config),
    )
