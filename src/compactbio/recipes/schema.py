"""The schema of a recipe: one frozen, validated mapping, flat so that `--set key=value` reaches every field."""

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LossTerm(StrEnum):
    """The loss terms that a recipe can weigh; `objectives.terms` holds their formulas under the same names."""

    MLM = "mlm"
    LOGITS_KL = "logits_kl"
    SOFT_TARGETS = "soft_targets"
    LAST_HIDDEN_COSINE = "last_hidden_cosine"
    HIDDEN_COSINE = "hidden_cosine"
    HIDDEN_MSE = "hidden_mse"
    ATTENTION_KL = "attention_kl"
    ATTENTION_MSE = "attention_mse"


# What `published: true` sets: the behaviour of the published scripts, by the field that corrects it.
CORRECTIONS: dict[str, Any] = {
    "teacher_dropout": True,
    "copy_mlm_head": False,
    "attention_after_dropout": True,
    "attention_kl_mean": "elements",
    "attention_mse_of": "probabilities",
    "attention_dropout": 0.1,
}


class Recipe(BaseModel):
    """How a compact model is made: its start, its losses, its optimisation.

    A unit stands with each field where there is one. Frozen; `recipes.load` makes one from YAML and overrides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    summary: str = ""
    source: str = ""
    kind: Literal["distil", "continue"]

    start: Literal["teacher-layers", "checkpoint", "random"]
    teacher: str | None = None
    init: str | None = None
    layers: int | None = Field(None, ge=1)
    pick: Literal["first", "last"] = "first"
    hidden_size: int | None = Field(None, ge=1)
    intermediate_size: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)

    loss: dict[LossTerm, float]
    temperature: float = Field(1.0, gt=0)

    mlm_probability: float = Field(0.15, gt=0, lt=1)
    max_length: int = Field(256, ge=3)
    batch_size: int = Field(192, ge=1)
    steps: int = Field(ge=1)
    learning_rate: float = Field(ge=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, gt=0)
    hidden_dropout: float | None = Field(None, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    eval_every: int = Field(1000, ge=1)
    save_every: int = Field(1000, ge=1)

    published: bool = Field(False, strict=True)
    teacher_dropout: bool = False
    copy_mlm_head: bool = True
    attention_after_dropout: bool = False
    attention_kl_mean: Literal["rows", "elements"] = "rows"
    attention_mse_of: Literal["scores", "probabilities"] = "scores"
    attention_dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _published_behaviour(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("published") is True:
            return {**CORRECTIONS, **values}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.loss or any(weight <= 0 for weight in self.loss.values()):
            raise ValueError("loss needs at least one term, each with a weight above 0")
        if self.kind == "continue" and set(self.loss) != {LossTerm.MLM}:
            raise ValueError("a recipe of kind 'continue' has no teacher, so its loss is mlm alone; use kind: distil")
        starts = {"distil": ("teacher-layers", "random"), "continue": ("checkpoint", "random")}[self.kind]
        if self.start not in starts:
            raise ValueError(f"kind {self.kind!r} starts from {starts[0]!r} or {starts[1]!r}, not {self.start!r}")
        if self.start == "teacher-layers" and self.layers is None:
            raise ValueError("start 'teacher-layers' needs layers, the depth of the student")
        if self.start == "teacher-layers" and (self.hidden_size or self.intermediate_size or self.heads):
            raise ValueError(
                "start 'teacher-layers' keeps the teacher's width; hidden_size, intermediate_size and "
                "heads go with start 'random'"
            )
        if self.start == "random" and None in (self.layers, self.hidden_size, self.intermediate_size, self.heads):
            raise ValueError("start 'random' needs layers, hidden_size, intermediate_size and heads")
        return self
