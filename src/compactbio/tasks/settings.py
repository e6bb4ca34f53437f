"""How a model is fine-tuned, and what the config.json of a fine-tuned model keeps of that."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PretrainedConfig

from compactbio.errors import UserError, plain, validation_problem

# The settings that are for models with teachers, and those for unlabelled texts.
OF_TEACHERS = ("distil_weight", "temperature")
OF_TEXTS = ("sample", "sample_mentions", "sample_by")


class Settings(BaseModel):
    """The settings of a fine-tuning run.

    Args:
        epochs: passes over the training data, 1 to 10,000.
        learning_rate: the highest, in (0, 1).
        batch_size: rows per step: sentences, or windows of a passage.
        max_length: tokens per row at most, 16 or more.
        stride: tokens that neighbouring windows share (QA).
        warmup: the share of the steps in which the learning rate rises.
        weight_decay: of AdamW.
        seed: of dropout, the order of rows and a fresh head.
        negative: the classes of no relation, as for `relation_classes.scheme`; None where the labels decide.
        scheme: how classes are made, as for `relation_classes.scheme`; None where the labels decide.
        joined_signs: the neighbourhoods in which a punctuation character belongs to a word (NER), as of
            `documents.words.joined_signs`; None where the training data decide.
        distil_weight: the share of the teachers in the loss, 0 to 1; 0.5 by default, None without teachers.
        temperature: of the teachers' and the student's probabilities, above 0; 2 by default, None without teachers.
        sample: unlabelled rows to train on; None for all.
        sample_mentions: the share of the sample in which the teachers find something, as far as there is so much.
        sample_by: whether the sample is drawn by "chance", or has what the teachers are least certain of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epochs: int = Field(ge=1, le=10_000)
    learning_rate: float = Field(gt=0, lt=1)
    batch_size: int = Field(ge=1, le=65_536)
    max_length: int = Field(ge=16)
    stride: int = Field(default=128, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
    negative: list[str] | None = None
    scheme: Literal["chemprot", "labels"] | None = None
    joined_signs: list[str] | None = None
    distil_weight: float | None = Field(default=None, ge=0, le=1)
    temperature: float | None = Field(default=None, gt=0, le=100)
    sample: int | None = Field(default=None, ge=1)
    sample_mentions: float | None = Field(default=None, ge=0, le=1)
    sample_by: Literal["chance", "uncertainty"] | None = None

    def within(self, longest: int) -> Self:
        """The same for a model whose rows have at most `longest` tokens."""
        return self.model_copy(update={"max_length": min(self.max_length, longest)})

    def record(self) -> dict[str, Any]:
        """As a JSON value, without what the data decide."""
        return self.model_dump(exclude_none=True)


_DEFAULTS: dict[str, dict[str, Any]] = {
    # As long as a model reads at once: a sentence is cut only where it is longer.
    "ner": {"epochs": 5, "batch_size": 32, "max_length": 8192},
    "relation": {"epochs": 5, "batch_size": 32, "max_length": 256},
    "qa": {"epochs": 3, "batch_size": 16, "max_length": 384},
}


def settings(task: str, width: int, overrides: dict[str, Any]) -> Settings:
    """The settings of a task for an encoder, its defaults replaced by `overrides`.

    The default learning rate is 5e-5 at width 768 and grows as the width shrinks: smaller models want larger steps. For
    NER it is 3e-4 up to width 384 (measured there, see docs/results/finetuning.md), and falls to 5e-5 at 768.

    Args:
        task: "ner", "relation" or "qa".
        width: the encoder's hidden size.
        overrides: fields of `Settings`.

    Raises UserError for an unknown setting, one of another task, or a value out of its range.
    """
    owners = {"negative": "relation", "scheme": "relation", "joined_signs": "ner"}
    for key, owner in owners.items():
        if task != owner and overrides.get(key) is not None:
            raise UserError(f"{key} is for the task {owner}, the data are of {task}: leave it out.")
    if isinstance(overrides.get("negative"), str):
        overrides = {**overrides, "negative": [overrides["negative"]]}
    defaults = {**_DEFAULTS[task], "learning_rate": _learning_rate(task, width)}
    try:
        return Settings(**{**defaults, **plain(overrides)})
    except ValidationError as error:
        problem = validation_problem(error, lambda _: Settings.model_fields)
        raise UserError(f"Settings of fine-tuning: {problem}.") from None


def _learning_rate(task: str, width: int) -> float:
    rate = 5e-5 * 768 / width
    if task == "ner":
        # Six times the rate at half the width; nothing narrower was measured.
        rate = max(rate, 5e-5 * min(768 / width, 2) ** math.log2(6))
    return round(rate, 7)


# Keys of ours: how a relation model's classes were made, and in which neighbourhoods an NER model's training data kept
# a punctuation character inside a word.
RELATION_CLASSES = "relation_classes"
JOINED_SIGNS = "joined_signs"
# The scheme of an NER model's training tags, where it is known; without it, each word's own best tag is taken.
TAG_SCHEME, IOB2 = "tag_scheme", "IOB2"
# True where each type of mention was learnt from data that are not labelled for the others.
INDEPENDENT_TYPES = "independent_types"
_SETTINGS = {"negative": list, "scheme": str}


def named_labels(config: PretrainedConfig, name: str) -> list[str]:
    """A model's labels by id. Raises UserError where its configuration only numbers them."""
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise UserError(f"{name}: the id2label of its config.json must number its {config.num_labels} labels from 0.")
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    if all(label.startswith("LABEL_") for label in labels):
        raise UserError(
            f"{name}: its config.json has no id2label, so the meaning of its outputs is unknown; write the labels "
            "there, in the order of the outputs, or fine-tune it again with `compactbio finetune`."
        )
    return labels


def has_independent_outputs(config: PretrainedConfig) -> bool:
    """Whether each output of a relation model decides for itself if its class holds."""
    return bool(config.problem_type == "multi_label_classification" and config.num_labels > 1)


@dataclass(frozen=True)
class Decoding:
    """How the logits of an NER model become tags.

    Attributes:
        valid: whether only valid sequences of IOB2 are found, by a model that was trained on IOB2.
        by_type: whether each type is decided for itself, between `O` and the labels of that type alone, so that
            mentions of different types may overlap.
    """

    valid: bool = False
    by_type: bool = False


def decoding(config: PretrainedConfig) -> Decoding:
    """How an NER model's configuration says that its logits become tags."""
    return Decoding(getattr(config, TAG_SCHEME, None) == IOB2, getattr(config, INDEPENDENT_TYPES, None) is True)


def stored_settings(config: PretrainedConfig, task: str) -> dict[str, Any]:
    """The settings that a fine-tuned model keeps in its configuration, {} where it has none.

    Of a relation model they say how its classes are made, of an NER model how its words were split.
    """
    if task == "ner":
        signs = getattr(config, JOINED_SIGNS, None)
        valid = isinstance(signs, list) and all(isinstance(sign, str) for sign in signs)
        return {JOINED_SIGNS: signs} if valid else {}
    found = getattr(config, RELATION_CLASSES, None) if task == "relation" else None
    stored = found if isinstance(found, dict) else {}
    return {key: stored[key] for key, kind in _SETTINGS.items() if isinstance(stored.get(key), kind)}


def unknown_words(config: PretrainedConfig, name: str) -> str | None:
    """A sentence about an NER model that does not say how the words of its training data were split, else None."""
    if stored_settings(config, "ner"):
        return None
    return (
        f"{name}: its config.json has no {JOINED_SIGNS}, so it is unknown how the words of its training data were "
        "split: in raw text every punctuation character is taken as a word, which finds less where that was not so."
    )
