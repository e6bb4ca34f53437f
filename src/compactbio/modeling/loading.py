"""From names to models that can be trained: family, weights, MLM head and vocabulary checked before the first step."""

import copy
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.activations import ACT2FN

from compactbio import hub
from compactbio.errors import UserError
from compactbio.files import file_digest, value_digest
from compactbio.modeling.families import DECODER_BIAS, check_family, is_head, is_untied
from compactbio.modeling.sharing import building, held
from compactbio.modeling.tokenizers import load_tokenizer, tokenizer_rules

_LFS = b"version https://git-lfs"
# What checkpoints hold beside encoder and head, and no output depends on: poolers, the heads of pre-training and of
# other tasks, the map that TinyBERT was distilled through.
_UNUSED = ("cls.", "vocab_", "classifier.", "pre_classifier.", "qa_outputs.", "fit_dense.", "pooler.")
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
_HANDED_OVER = {
    "return_dict": True,
    "torchscript": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "chunk_size_feed_forward": 0,
}


@dataclass(frozen=True)
class Source:
    """A model found on disk: the name that the user gave, its folder, its configuration."""

    name: str
    folder: Path
    config: PretrainedConfig

    @property
    def weights(self) -> list[Path]:
        """The files that its weights are read from."""
        return weights_in(self.folder)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of its weights and configuration."""
        # Of a folder that holds both, an exported model is not what makes the model another.
        weights = self.weights or sorted(self.folder.glob("*.onnx"))
        return value_digest([file_digest(file) for file in [*weights, self.folder / "config.json"]])

    def public_name(self) -> str:
        """The name as it may be published: of a local path only its last part."""
        return self.folder.resolve().name if Path(self.name).exists() else self.name


def weights_in(folder: Path) -> list[Path]:
    """The files of a model's weights: safetensors where there are any, else what torch saved."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def find(name: str | Path) -> Source:
    """Find a model by local folder or hub name.

    Raises UserError where there is none, its family is not served, or it has no weights that PyTorch loads.
    """
    source = configured(name)
    if not source.weights:
        raise UserError(f"{name}: it has no weights (model.safetensors or pytorch_model.bin); name another folder.")
    return source


def configured(name: str | Path, more: Sequence[str] = ()) -> Source:
    """Find a model's folder and configuration, whatever its weights are; from the hub `more` files come along.

    Raises UserError as `find` does.
    """
    name = str(name)
    folder = hub.resolve(name, kind="model", more=more)
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: not a model folder, there is no config.json in it.")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of many kinds, all about what the file says
        raise UserError(f"{name}: its config.json cannot be read ({_reason(error)}).") from None
    check_family(config, name)
    _check_config(config, name)
    return Source(name, folder, config)


def _check_config(config: PretrainedConfig, name: str) -> None:
    """Refuse a configuration of a model that is computed in another way than an encoder of today's library."""
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    position = getattr(config, "position_embedding_type", None)
    small = [key for key in _SIZES if getattr(config, key, 1) < 1]
    wrong = {
        f"{', '.join(small)} must be 1 or more": bool(small),
        "is_decoder is true, which hides later words from earlier ones": bool(getattr(config, "is_decoder", False)),
        "add_cross_attention is true": bool(getattr(config, "add_cross_attention", False)),
        f"position_embedding_type is {position!r}, and transformers serves absolute ones alone": (
            position not in (None, "absolute")
        ),
        f"{activation!r} is not an activation that transformers knows": (
            isinstance(activation, str) and activation not in ACT2FN
        ),
    }
    for reason, holds in wrong.items():
        if holds:
            raise UserError(f"{name}: its config.json does not describe an encoder that can be served: {reason}.")
    # How results are handed over is our affair, and changes none of them.
    for key, value in _HANDED_OVER.items():
        if hasattr(config, key):
            setattr(config, key, value)


def load(source: Source, seed: int) -> tuple[PreTrainedModel, bool]:
    """The masked-LM model of a source in float32, and whether it has a trained MLM head.

    Where it has none, a fresh one is drawn from `seed`. Raises UserError as `load_for` does.
    """
    model, absent = _read(source, AutoModelForMaskedLM, copy.deepcopy(source.config), seed, torch.float32)
    _refuse_absent(source, [key for key in absent if not is_head(key)])
    if absent == [DECODER_BIAS] and is_untied(model):
        # Files of an untied decoder hold its bias under the other of its two names.
        model.cls.predictions.decoder.bias = model.cls.predictions.bias
        absent = []
    # Written so, the library keeps a decoder that differs, and finds its bias again.
    model.config.tie_word_embeddings = True
    return model, not absent


def load_for(
    source: Source,
    auto: Any,
    labels: Sequence[str] = (),
    seed: int = 0,
    *,
    new_head: bool = False,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """The model of a source with the head that `auto` (an AutoModelFor... class) puts on it, in eval mode.

    `labels` become its `id2label`; none leaves them as they are. With `new_head` a head that the source lacks, or has
    for other labels, is drawn from `seed`. Raises UserError for weights that cannot be read, are not there, do not
    have the shapes that the configuration says, are not finite, or have no place in the model.
    """
    config = copy.deepcopy(source.config)
    if auto is AutoModelForQuestionAnswering and getattr(config, "type_vocab_size", 2) < 2:
        raise UserError(
            f"{source.name}: its config.json has type_vocab_size {config.type_vocab_size}, and a question and its text "
            "are two segments; take another model for questions."
        )
    if labels:
        config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
        config.problem_type = None
    model, absent = _read(source, auto, config, seed if new_head else None, dtype)
    _refuse_absent(source, [key for key in absent if not (new_head and _is_task_head(key))])
    return model


def _read(
    source: Source, auto: Any, config: PretrainedConfig, seed: int | None, dtype: torch.dtype
) -> tuple[PreTrainedModel, list[str]]:
    """The model that `auto` makes of a source, and the weights that were drawn, from `seed`, for want of others."""
    for file in source.weights:
        with file.open("rb") as opened:
            if opened.read(len(_LFS)) == _LFS:
                raise UserError(f"{file}: a pointer of Git LFS stands there, not the weights: run `git lfs pull`.")
    try:
        with building(seed), quiet():
            model, report = auto.from_pretrained(
                source.folder,
                config=config,
                dtype=dtype,
                weights_only=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except pickle.UnpicklingError:
        raise UserError(
            f"{source.name}: {source.weights[0].name} is not a file of tensors alone, and what else it holds could run "
            "code, so it is not opened; take weights in safetensors."
        ) from None
    except Exception as error:  # of many kinds, from three libraries, all about the user's files
        raise UserError(
            f"{source.name}: its weights cannot be read into the model that its config.json describes "
            f"({_reason(error)})."
        ) from None
    assert isinstance(model, PreTrainedModel)
    _refuse_unused(source, report["unexpected_keys"], model, new_head=seed is not None)
    _refuse_not_finite(source, model)
    return model, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def _refuse_absent(source: Source, lost: Sequence[str]) -> None:
    if lost:
        raise UserError(
            f"{source.name}: its config.json describes weights that are not there, or have another shape ({lost[0]}, "
            f"{len(lost)} in all); name a folder whose configuration and weights belong together."
        )


def _refuse_unused(source: Source, unexpected: Sequence[str], model: PreTrainedModel, *, new_head: bool) -> None:
    # What stands beside a classifier that is used belongs to it.
    own = () if new_head or not hasattr(model, "classifier") else ("classifier.", "pre_classifier.")
    unused = sorted(
        key for key in unexpected if key.startswith(own) or not (key.startswith(_UNUSED) or ".pooler." in key)
    )
    if unused:
        kind = type(model).__name__
        raise UserError(
            f"{source.name}: it has weights that a {kind} does not use ({unused[0]}, {len(unused)} in all), so it "
            "would compute something else than it was trained to, and is refused."
        )


def _refuse_not_finite(source: Source, model: PreTrainedModel) -> None:
    for key, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise UserError(f"{source.name}: its weight {key} holds values that are not finite (NaN or infinity).")


def _is_task_head(key: str) -> bool:
    return key.startswith(("classifier.", "pre_classifier.", "qa_outputs.", "pooler.")) or ".pooler." in key


def refuse_headless(source: Source) -> NoReturn:
    """Refuse, with the way to mend it, a teacher without an MLM head."""
    raise UserError(
        f"{source.name} has no MLM head, which this recipe's loss reads from the teacher; adapt it first: "
        f"compactbio train bio-distilbert-cased --init {source.name} --corpus DIR --out ADAPTED, "
        "then use --teacher ADAPTED."
    )


def check_tokenizer(source: Source, corpus: PreTrainedTokenizerFast, manifest: dict[str, Any]) -> None:
    """Refuse a model whose tokenizer is not the one that a corpus was made with, or that has none to compare."""
    made, again = manifest["tokenizer"], f"build the corpus with --tokenizer {source.name}."
    if source.config.vocab_size < made["vocab_size"]:
        raise UserError(
            f"The corpus has a vocabulary of {made['vocab_size']} pieces, {source.name} one of "
            f"{source.config.vocab_size}; {again}"
        )
    own = load_tokenizer(source.folder)
    ours, theirs = tokenizer_rules(own.backend_tokenizer), tokenizer_rules(corpus.backend_tokenizer)
    differing = [part for part in ours if ours[part] != theirs[part]]
    if differing:
        raise UserError(
            f"The corpus was tokenised with another tokenizer ({made['name']}) than that of {source.name}: they differ "
            f"in {', '.join(differing)}{_cases(ours, theirs)}; {again}"
        )


def _cases(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Where one tokenizer lowers case and the other keeps it, that in words."""
    lowers = [bool((rules["normalizer"] or {}).get("lowercase")) for rules in (ours, theirs)]
    if lowers[0] == lowers[1]:
        return ""
    return " (the model's lowers case)" if lowers[0] else " (the corpus's lowers case)"


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
    tokenizer = load_tokenizer(source.folder)
    # Some models pad their embeddings a little; a tokenizer never has a piece beyond them.
    pieces, rows = max(tokenizer.get_vocab().values()) + 1, source.config.vocab_size
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


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong: of a field of a configuration the last one."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    line = lines[-1] if lines[0].startswith("Validation error") else lines[0]
    return (line.partition("Error: ")[2] or line)[:200] or type(error).__name__
