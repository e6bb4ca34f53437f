"""From names to models that can be trained: family, weights, MLM head and vocabulary checked before the first step."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from compactbio.corpus import vocabulary
from compactbio.errors import UserError
from compactbio.modeling.families import check_family, is_head
from compactbio.modeling.sharing import building, held
from compactbio.records import hashes, hub


@dataclass(frozen=True)
class Source:
    """A model found on disk: the name that the user gave, its folder, its configuration."""

    name: str
    folder: Path
    config: PretrainedConfig

    @cached_property
    def digest(self) -> str:
        """A fingerprint of its weights and configuration."""
        # Of a folder that holds both, an exported model is not what makes the model another.
        weights = list(self.folder.glob("*.safetensors")) or list(self.folder.glob("*.onnx"))
        files = [*sorted(weights), self.folder / "config.json"]
        return hashes.of_value([hashes.of_file(file) for file in files])

    def public_name(self) -> str:
        """The name as it may be published: of a local path only its last part."""
        return self.folder.resolve().name if Path(self.name).exists() else self.name


def find(name: str | Path) -> Source:
    """Find a model by local folder or hub name.

    Raises UserError where there is none, its family is not served, or its weights are only there as a pickle.
    """
    source = configured(name)
    if not list(source.folder.glob("*.safetensors")):
        raise UserError(
            f"{name}: it has no weights in safetensors, and pickled ones are not opened; convert it once with "
            "transformers (from_pretrained, then save_pretrained) and name the new folder."
        )
    return source


def configured(name: str | Path, more: Sequence[str] = ()) -> Source:
    """Find a model's folder and configuration, whatever its weights are; from the hub `more` files come along.

    Raises UserError as `find` does.
    """
    name = str(name)
    folder = hub.resolve(name, kind="model", more=more)
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: no model folder, there is no config.json in it.")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{name}: its config.json cannot be read ({_first_line(error)}).") from None
    check_family(config, name)
    return Source(name, folder, config)


def load(source: Source, seed: int) -> tuple[PreTrainedModel, bool]:
    """The masked-LM model of a source in float32, and whether it has a trained MLM head.

    Where it has none, a fresh one is drawn from `seed`. Raises UserError for weights that cannot be read.
    """
    try:
        with building(seed), quiet():
            model, report = AutoModelForMaskedLM.from_pretrained(
                source.folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{source.name}: its weights cannot be read ({_first_line(error)}).") from None
    missing = set(report["missing_keys"])
    lost = sorted(key for key in missing if not is_head(key))
    if lost:
        raise UserError(
            f"{source.name}: its config.json describes weights that are not there ({lost[0]}, {len(lost)} in all); "
            "name a folder whose configuration and weights belong together."
        )
    return model, not missing


def load_for(
    source: Source, auto: Any, labels: Sequence[str] = (), seed: int = 0, *, new_head: bool = False
) -> PreTrainedModel:
    """The model of a source with the head that `auto` (an AutoModelFor... class) puts on it, in float32.

    `labels` become its `id2label`; none leaves them as they are. With `new_head` a head that the source lacks, or has
    for other labels, is drawn from `seed`. Raises UserError for weights that cannot be read, are not there or do not
    have the shapes that the configuration says.
    """
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    try:
        with building(seed if new_head else None), quiet():
            model, report = auto.from_pretrained(
                source.folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **(names if labels else {}),
            )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{source.name}: its weights cannot be read ({_first_line(error)}).") from None
    absent = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    lost = sorted(key for key in absent if not (new_head and _is_task_head(key)))
    if lost:
        raise UserError(
            f"{source.name}: its config.json describes weights that are not there, or have another shape ({lost[0]}, "
            f"{len(lost)} in all); name a folder whose configuration and weights belong together."
        )
    assert isinstance(model, PreTrainedModel)
    return model


def _is_task_head(key: str) -> bool:
    return key.startswith(("classifier.", "pre_classifier.", "qa_outputs.")) or ".pooler." in key


def refuse_headless(source: Source) -> NoReturn:
    """Refuse, with the way to mend it, a teacher without an MLM head."""
    raise UserError(
        f"{source.name} has no MLM head, which this recipe's loss reads from the teacher; adapt it first: "
        f"compactbio train bio-distilbert-cased --init {source.name} --corpus DIR --out ADAPTED, "
        "then use --teacher ADAPTED."
    )


def check_vocabulary(source: Source, manifest: dict[str, Any]) -> None:
    """Refuse a model whose vocabulary is not the one that the corpus was made with."""
    made = manifest["tokenizer"]
    again = f"build the corpus with --tokenizer {source.name}."
    has_tokenizer = any((source.folder / file).is_file() for file in ("tokenizer.json", "vocab.txt"))
    if has_tokenizer and vocabulary.vocabulary_digest(vocabulary.load(source.folder)) != made["vocab_sha256"]:
        raise UserError(
            f"The corpus was tokenised with another vocabulary ({made['name']}) than that of {source.name}; {again}"
        )
    if source.config.vocab_size < made["vocab_size"]:
        raise UserError(
            f"The corpus has a vocabulary of {made['vocab_size']} pieces, {source.name} one of "
            f"{source.config.vocab_size}; {again}"
        )


def check_length(config: PretrainedConfig, name: str, manifest: dict[str, Any]) -> None:
    """Refuse a model with fewer positions than the corpus has tokens a row."""
    longest = manifest["settings"]["max_length"]
    if config.max_position_embeddings < longest:
        raise UserError(
            f"{name} has {config.max_position_embeddings} positions, the corpus rows of up to {longest} tokens; "
            f"build the corpus with --max-length {config.max_position_embeddings} or less."
        )


def tokenizer_of(source: Source) -> PreTrainedTokenizerFast:
    """The tokenizer in a source's folder. Raises UserError where there is none, or one for another vocabulary."""
    tokenizer = vocabulary.load(source.folder)
    pieces, rows = len(tokenizer), source.config.vocab_size
    # Some models pad their embeddings a little; a tokenizer never has more pieces than rows.
    if pieces > rows or pieces < 0.9 * rows:
        raise UserError(
            f"{source.name}: its tokenizer has {pieces:,} pieces, its configuration {rows:,}; "
            "name a folder whose tokenizer and weights belong together."
        )
    return tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Within it transformers neither warns nor draws bars: what it would say is checked and said in our words."""
    with held("transformers", _silence):
        yield


def _silence() -> Callable[[], None]:
    before, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()

    def back() -> None:
        transformers.logging.set_verbosity(before)
        if bars:
            transformers.logging.enable_progress_bar()

    return back


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
