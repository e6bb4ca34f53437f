"""From names to models: configuration, weights, head and tokenizer are checked before anything is computed."""

import copy
import logging
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.activations import ACT2FN

from compactbio import hub
from compactbio.errors import UserError, check_named, reason
from compactbio.files import file_digest, read_json, read_json_or_none, value_digest
from compactbio.modeling import families
from compactbio.modeling.packing import AUTO, check_runs
from compactbio.modeling.sharing import building, held
from compactbio.modeling.tokenizers import load_tokenizer, reading_digest, template, tokenizer_rules

_LFS = b"version https://git-lfs"
# Weights beside encoder and head that no output depends on: poolers, the heads of pre-training and of other tasks, the
# projection that TinyBERT was distilled through.
_UNUSED = ("cls.", "vocab_", "classifier.", "pre_classifier.", "qa_outputs.", "fit_dense.", "pooler.")
# The classifiers of sentences and words, whose weights are all used where there is one.
_CLASSIFIER = ("classifier.", "pre_classifier.")
# Buffers that older versions of transformers saved.
_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
_WEIGHTS = (*hub.SAFETENSORS, "pytorch_model.bin", "pytorch_model-*-of-*.bin")
# How results are returned, which changes none of them.
_RETURNED = {
    "return_dict": True, "torchscript": False, "output_attentions": False, "output_hidden_states": False,
    "chunk_size_feed_forward": 0,
}  # fmt: skip
# How weights are read: nothing in them is run, and all that does not fit is reported.
_READING = {
    "weights_only": True, "trust_remote_code": False, "local_files_only": True, "ignore_mismatched_sizes": True,
    "output_loading_info": True,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A model found on disk."""

    name: str  # the folder or hub name that the user gave
    folder: Path
    config: PretrainedConfig

    @property
    def weights(self) -> list[Path]:
        """The files of its weights."""
        return weights_in(self.folder)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of its weights and configuration."""
        # An exported model beside the weights does not make it another model.
        weights = self.weights or sorted(self.folder.glob("*.onnx"))
        return value_digest([file_digest(file) for file in [*weights, self.folder / "config.json"]])

    @cached_property
    def reading(self) -> str:
        """A fingerprint of how its tokenizer reads texts. Raises UserError as `tokenizer_of` does."""
        return reading_digest(tokenizer_of(self))

    def public_name(self) -> str:
        """The name as it can be published: of a local path only its last part."""
        return self.folder.resolve().name if Path(self.name).expanduser().exists() else self.name


def weights_in(folder: Path) -> list[Path]:
    """The files of a model's weights: safetensors where there are any, else what torch saved."""
    return next((found for name in _WEIGHTS if (found := sorted(folder.glob(name)))), [])


def find(name: str | Path) -> Source:
    """Find a model with weights for PyTorch, by folder or hub name.

    Raises UserError where there is none, its family is not supported, or it has no such weights.
    """
    source = configured(name)
    if not source.weights:
        names = "model.safetensors, pytorch_model.bin"
        raise UserError(f"{source.name}: it has no weights here ({names}): fetch them first, or name another one.")
    return source


def configured(name: str | Path, more: Sequence[str] = ()) -> Source:
    """Find a model's folder and configuration, whatever its weights are, by folder or hub name.

    `more` are patterns of further files to fetch from the hub. Raises UserError where there is no model, or its family
    is not supported.
    """
    name = check_named(name, "The name of a model")
    folder = hub.resolve(name, kind="model", more=more)
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{name}: it holds a PEFT adapter (adapter_config.json), which is not read; merge it into its model with "
            "merge_and_unload(), and name the folder that you save that in."
        )
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: not a model folder, as it has no config.json.")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of many kinds, all about the file
        own_code = False
        with suppress(ValueError, TypeError):
            own_code = "auto_map" in read_json(folder / "config.json")
        if own_code:
            raise UserError(
                f"{name}: it needs code from its own repository (trust_remote_code), which is never run; take a model "
                "of a type that transformers has."
            ) from None
        raise UserError(f"{name}: its config.json cannot be read ({reason(error)}).") from None
    _check_config(config, name)
    run = read_json_or_none(folder / "run.json")
    identity = run.get("identity") if isinstance(run, dict) else None
    trained = identity.get("labels") if isinstance(identity, dict) else None
    labels = [str(config.id2label[output]) for output in sorted(config.id2label)]
    named = [labels, [label.partition("-")[0] for label in labels]]  # of one type without a name: B, I, O
    if isinstance(trained, list) and trained not in named and sorted(map(str, trained)) in map(sorted, named):
        raise UserError(
            f"{name}: the id2label of its config.json has another order than the run.json beside it, which is "
            f"{', '.join(map(str, trained))}: put it back, or delete run.json where it is not of this model."
        )
    return Source(name, folder, config)


def _check_config(config: PretrainedConfig, name: str) -> None:
    """Refuse a model that is computed in another way than the encoders of today's transformers."""
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    position = getattr(config, "position_embedding_type", None)
    # XLNet has -1 positions, which means any number of them.
    unbounded = ("max_position_embeddings", -1)
    small = [key for key in _SIZES if (size := getattr(config, key, 1)) < 1 and (key, size) != unbounded]
    infinite = [key for key, value in vars(config).items() if isinstance(value, float) and not math.isfinite(value)]
    named, pad, vocabulary = config.architectures, config.pad_token_id, getattr(config, "vocab_size", None)
    wrong = {
        f"{', '.join(small)} must be 1 or more": bool(small),
        f"{', '.join(infinite)} must be a finite number": bool(infinite),
        f"architectures must be a list of names, not {named!r}": not (
            named is None or (isinstance(named, list) and all(isinstance(name, str) for name in named))
        ),
        f"pad_token_id is {pad}, which is not one of its {vocabulary} ids": (
            pad is not None and vocabulary is not None and not 0 <= pad < vocabulary
        ),
        f"pad_token_id is null, and a {config.model_type} counts its positions from it": (
            pad is None and families.packs(config) and families.first_position(config) > 0
        ),
        "inner_group_num must be 1": getattr(config, "inner_group_num", 1) != 1,
        "is_decoder is true, which hides later words from earlier ones": bool(getattr(config, "is_decoder", False)),
        "add_cross_attention is true": bool(getattr(config, "add_cross_attention", False)),
        f"a {config.model_type} has a decoder beside its encoder": bool(config.is_encoder_decoder),
        f"position_embedding_type is {position!r}, and transformers supports only absolute ones": (
            position not in (None, "absolute")
        ),
        f"{activation!r} is not an activation that transformers knows": (
            isinstance(activation, str) and activation not in ACT2FN
        ),
    }
    for problem, holds in wrong.items():
        if holds:
            raise UserError(f"{name}: its config.json does not describe an encoder that is supported: {problem}.")
    for key, value in _RETURNED.items():
        if hasattr(config, key):
            setattr(config, key, value)


def load(source: Source, seed: int) -> tuple[PreTrainedModel, bool]:
    """A masked-LM model in float32, and whether its MLM head is a trained one; one that it lacks is drawn from `seed`.

    Raises UserError as `load_for` does.
    """
    families.family_of(source.config, source.name)
    model, absent = _read(source, transformers.AutoModelForMaskedLM, copy.deepcopy(source.config), seed)
    _refuse_absent(source, [key for key in absent if _is_of_encoder(key, model)])
    absent = families.with_decoder_bias(model, absent)
    # Saved with this, the library keeps a decoder that differs, and finds its bias again.
    model.config.tie_word_embeddings = True
    return model, not absent


def load_for(
    source: Source,
    task: str | None,
    labels: Sequence[str] = (),
    seed: int = 0,
    *,
    new_head: bool = False,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """A model with the head of a task, None for the encoder alone, in eval mode.

    Its `id2label` are the `labels`, where there are any. With `new_head`, a head that the source lacks, or has for
    other labels, is drawn from `seed`. Raises UserError for weights that cannot be read, are missing, have other shapes
    than the configuration says, are not finite, or that the model does not use.
    """
    config = copy.deepcopy(source.config)
    if task == "qa" and families.needs_segments(config) and config.type_vocab_size < 2:
        raise UserError(
            f"{source.name}: its config.json has type_vocab_size {config.type_vocab_size}, and a question and its text "
            "are two segments; take another model for questions."
        )
    if task == "qa" and new_head:
        config.num_labels = 2  # whatever a classifier of words or sentences has: the start and the end of an answer
    if labels:
        config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
        config.problem_type = None
    auto = AUTO[task] if task else transformers.AutoModel
    model, absent = _read(source, auto, config, seed if new_head else None, dtype)
    _refuse_absent(source, [key for key in absent if not new_head or _is_of_encoder(key, model)])
    if task:
        check_runs(model, source.name)
    return model


def _read(
    source: Source, auto: Any, config: PretrainedConfig, seed: int | None, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, list[str]]:
    """The model that `auto` makes of a source, and the names of the weights that were drawn, from `seed`."""
    for file in source.weights:
        with file.open("rb") as opened:
            if opened.read(len(_LFS)) == _LFS:
                raise UserError(f"{file}: a pointer of Git LFS, not the weights: run `git lfs pull`.")
    try:
        with building(seed), quiet():
            model, report = auto.from_pretrained(source.folder, config=config, dtype=dtype, **_READING)
    except pickle.UnpicklingError:
        raise UserError(
            f"{source.name}: {_with_code(source.weights)} holds more than tensors, and that could run code, so it is "
            "not opened; take weights in safetensors."
        ) from None
    except Exception as error:  # of many kinds, from three libraries, all about the user's files
        if str(error).startswith("Unrecognized configuration class"):
            head = auto.__name__.removeprefix("AutoModelFor")
            raise UserError(
                f"{source.name} is of type {config.model_type!r}, of which transformers has no model for {head}: take "
                "another."
            ) from None
        raise UserError(
            f"{source.name}: its weights cannot be read into the model that its config.json describes "
            f"({reason(error)})."
        ) from None
    assert isinstance(model, PreTrainedModel)
    model.to(dtype)  # some modules ask for a type of their own
    for part in (weight for weight in model.parameters() if weight.untyped_storage().nbytes() > weight.nbytes):
        part.data = part.data.clone()  # of a fused weight, as NomicBert's: safetensors would not load it again
    _refuse_whole_numbers(source)
    _refuse_unused(source, report["unexpected_keys"], model, new_head=seed is not None)
    for key, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise UserError(f"{source.name}: its weight {key} holds values that are not finite (NaN or infinity).")
    return model, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def _with_code(files: Sequence[Path]) -> str:
    """The name of the first file that holds more than tensors."""
    for file in files:
        try:
            torch.load(file, map_location="meta", weights_only=True)
        except pickle.UnpicklingError:
            break
    return file.name


def _refuse_whole_numbers(source: Source) -> None:
    """Refuse weights that are saved as whole numbers or truth values, which the library only converts to floats."""
    for file in source.weights:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                floating = {key: "F" in opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
        else:
            saved = torch.load(file, map_location="meta", weights_only=True)
            if not isinstance(saved, dict):
                raise UserError(f"{source.name}: {file.name} is not a dictionary of tensors; save the model again.")
            floating = {key: value.is_floating_point() for key, value in saved.items() if torch.is_tensor(value)}
        wrong = [key for key, is_floating in floating.items() if not is_floating and key.endswith((".weight", ".bias"))]
        if wrong:
            raise UserError(
                f"{source.name}: its weights are not floating-point numbers ({wrong[0]}, {len(wrong)} in all), and "
                "what they stand for is not known; take the model as it was before it was quantised."
            )


def _refuse_absent(source: Source, lost: Sequence[str]) -> None:
    if lost:
        raise UserError(
            f"{source.name}: its config.json describes weights that are not there, or have another shape ({lost[0]}, "
            f"{len(lost)} in all); name a folder whose configuration and weights belong together."
        )


def _refuse_unused(source: Source, unexpected: Sequence[str], model: PreTrainedModel, *, new_head: bool) -> None:
    # Further weights of a classifier that is used belong to it.
    used = () if new_head or not hasattr(model, "classifier") else _CLASSIFIER
    heads = (*_UNUSED, *families.pretrained_heads(model.config))
    unused = sorted(
        key
        for key in unexpected
        if key.startswith(used) or not (key.startswith(heads) or ".pooler." in key or key.endswith(_BUFFERS))
    )
    if unused:
        kind = type(model).__name__
        raise UserError(
            f"{source.name}: it has weights that a {kind} does not use ({unused[0]}, {len(unused)} in all), so it "
            "would not compute what it was trained to: take another model."
        )


def _is_of_encoder(key: str, model: PreTrainedModel) -> bool:
    """Whether a weight belongs to the encoder, and not to a head or to the pooler that a head reads."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return key.startswith(prefix) and not key.removeprefix(prefix).startswith("pooler.")


def check_tokenizer(source: Source, corpus: PreTrainedTokenizerFast, manifest: dict[str, Any]) -> None:
    """Refuse a model whose tokenizer is not the one that a corpus was made with, or that has none to compare."""
    made, again = manifest["tokenizer"], f"build the corpus with the tokenizer of {source.name}."
    if source.config.vocab_size < made["vocab_size"]:
        raise UserError(
            f"The corpus has a vocabulary of {made['vocab_size']} pieces, {source.name} one of "
            f"{source.config.vocab_size}; {again}"
        )
    own = load_tokenizer(source.folder)
    model, rows = (
        {**tokenizer_rules(tokenizer.backend_tokenizer), "special tokens": template(tokenizer).gaps}
        for tokenizer in (own, corpus)
    )
    differing = [rule for rule in model if model[rule] != rows[rule]]
    if differing:
        raise UserError(
            f"The corpus was tokenised with another tokenizer ({made['name']}) than that of {source.name}: they differ "
            f"in {', '.join(differing)}{_cases(model, rows)}; {again}"
        )


def _cases(model: dict[str, Any], rows: dict[str, Any]) -> str:
    """In words, where one tokenizer lowers case and the other keeps it."""
    lowers = [_lowers(rules["normalizer"] or {}) for rules in (model, rows)]
    if lowers[0] == lowers[1]:
        return ""
    return " (the model's lowers case)" if lowers[0] else " (the corpus's lowers case)"


def _lowers(normalizer: dict[str, Any]) -> bool:
    if normalizer.get("type") == "Sequence":
        return any(map(_lowers, normalizer["normalizers"]))
    return normalizer.get("type") == "Lowercase" or bool(normalizer.get("lowercase"))


def check_length(config: PretrainedConfig, name: str, manifest: dict[str, Any]) -> None:
    """Refuse a model with fewer positions than the corpus has tokens per row."""
    rows, limit = manifest["settings"]["max_length"], families.longest(config)
    if limit < rows:
        raise UserError(
            f"{name} has {limit} positions, the corpus rows of up to {rows} tokens; build the corpus with max_length "
            f"{limit} or less."
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
    """Within it transformers neither warns nor draws bars: what it would report is checked and reported here."""
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
