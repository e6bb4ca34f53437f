"""Recipes: how a compact model is made, as data. `names()` lists the packaged ones, `load()` reads one or a file."""

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from compactbio.errors import UserError, check_named, nearest, plain, validation_problem
from compactbio.files import parse_yaml, read_yaml


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
    ATTENTION_RELATIONS = "attention_relations"


# What `published: true` sets: the behaviour of the published scripts, by the field that corrects it.
CORRECTIONS: dict[str, Any] = {
    "teacher_dropout": True,
    "copy_mlm_head": False,
    "attention_after_dropout": True,
    "attention_kl_mean": "elements",
    "attention_mse_of": "probabilities",
    "attention_dropout": 0.1,
}


def _kinds(annotation: Any) -> set[Any]:
    """The types that a field may have."""
    return {annotation, *get_args(annotation)}


# How a student's layers go with its teacher's: by a rule, or the 0-based teacher layer of each.
LayerMap = Literal["uniform", "last"] | tuple[int, ...]


class Recipe(BaseModel):
    """How a compact model is made: its start, its loss, its optimisation. Frozen; `load` makes one.

    Attributes:
        kind: "distil" trains a student against a teacher, "continue" trains a checkpoint further on masked tokens.
        start: the student's weights are layers of the teacher, a checkpoint, or random.
        teacher: hub name or folder of the teacher (kind "distil").
        init: hub name or folder of the checkpoint (start "checkpoint").
        layers: depth of the student; with hidden_size, intermediate_size and heads its shape (start "random").
        layer_map: the teacher's layer of each student layer, for the start and for the terms that compare layer by
            layer: "uniform", spread evenly over the teacher; "last", its last layers; or a list of 0-based layers.
        pick: which layer of each block of the teacher's layers a student's layer starts from (layer_map "uniform").
        loss: weight of each term.
        temperature: divides the logits in `logits_kl` and `soft_targets`.
        relation_layer: the teacher's 0-based layer that `attention_relations` reads; None is the last.
        relation_heads: heads of these relations, a divisor of both widths; None is the largest up to 48.
        mlm_probability: share of the tokens that are masked.
        max_length: tokens per row at most, special ones included.
        batch_size: citations per optimiser step.
        warmup_steps: steps over which the learning rate rises from 0.
        head_steps: steps at the start in which the MLM head alone is trained (start "checkpoint"), for a checkpoint
            that has none.
        hidden_dropout: dropout of the student's hidden states; None leaves it as it is.
        eval_every: steps between measurements on held-out rows.
        save_every: steps between checkpoints.
        published: true sets the fields of `CORRECTIONS` to the behaviour of the published scripts.
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
    layer_map: LayerMap = "uniform"
    pick: Literal["first", "last"] = "first"
    hidden_size: int | None = Field(None, ge=1)
    intermediate_size: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)

    loss: dict[LossTerm, float]
    temperature: float = Field(1.0, gt=0)
    relation_layer: int | None = Field(None, ge=0)
    relation_heads: int | None = Field(None, ge=1)

    mlm_probability: float = Field(0.15, gt=0, lt=1)
    max_length: int = Field(256, ge=3)
    batch_size: int = Field(192, ge=1)
    steps: int = Field(ge=1)
    learning_rate: float = Field(ge=0)
    warmup_steps: int = Field(0, ge=0)
    head_steps: int = Field(0, ge=0)
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

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number_or_text(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        values = value.values() if isinstance(value, dict) else [value]
        if any(type(one) is bool for one in values):
            if kinds & {int, float}:
                raise ValueError("true and false are not numbers")
            if str in kinds:
                raise ValueError("this must be text; put a word that YAML reads as true or false in quotes")
        return value

    @field_validator("layer_map", mode="before")
    @classmethod
    def _known_layers(cls, value: Any) -> Any:
        if value in ("uniform", "last"):
            return value
        layers = value if isinstance(value, list | tuple) else ()
        if not layers or any(type(layer) is not int for layer in layers) or list(layers) != sorted(layers):
            raise ValueError(f"take uniform, last, or a list of the teacher's layers in their order, not {value!r}")
        return tuple(layers)

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
        if self.head_steps and self.start != "checkpoint":
            raise ValueError("head_steps is for start 'checkpoint', which may have no MLM head")
        if self.start == "random" and None in (self.layers, self.hidden_size, self.intermediate_size, self.heads):
            raise ValueError("start 'random' needs layers, hidden_size, intermediate_size and heads")
        return self


_PACKAGED = {file.stem: file for folder in ("published", "ours") for file in (Path(__file__).parent / folder).iterdir()}


def names() -> list[str]:
    """The names of the packaged recipes, sorted."""
    return sorted(_PACKAGED)


def is_published(name: str) -> bool:
    """Whether a packaged recipe is one of the paper's, and not this project's own. Raises KeyError for another name."""
    return _PACKAGED[name].parent.name == "published"


def text(name: str) -> str:
    """The YAML of a packaged recipe with its comments. Raises UserError for an unknown name."""
    if name not in _PACKAGED:
        raise UserError(_unknown_recipe(name))
    return _PACKAGED[name].read_text(encoding="utf-8")


def load(name_or_path: str | Path | Recipe, **overrides: Any) -> Recipe:
    """Read a recipe, with some fields replaced.

    Args:
        name_or_path: the name of a packaged recipe, a YAML file, or a recipe.
        **overrides: fields to replace. `loss` replaces single weights, by term, and a weight of 0 removes a term.
            Where `steps` is given without `warmup_steps`, the warm-up keeps its share of the steps.

    Raises UserError for an unknown recipe or key, with the nearest known one, and for a value out of range.

    Example: `load("distil-biobert", steps=1000, loss={"mlm": 1.0})`
    """
    if isinstance(name_or_path, Recipe):
        return replaced(name_or_path.model_dump(), name_or_path.name, overrides) if overrides else name_or_path
    name = check_named(name_or_path, "The recipe")
    path = _PACKAGED.get(name, Path(name))
    if not path.is_file():
        raise UserError(_unknown_recipe(name))
    return replaced({"name": path.stem} | read_yaml(path, "Recipe"), name, overrides)


def replaced(values: dict[str, Any], name: str, overrides: dict[str, Any]) -> Recipe:
    """The recipe of these values with some replaced, as `load` replaces them. Raises UserError as `load` does.

    Args:
        values: by field, of a file or of another recipe.
        name: of the recipe, for the error.
        overrides: as for `load`.
    """
    overrides = plain(overrides)
    restored = CORRECTIONS if overrides.get("published") is True else {}
    if overrides.get("published") is False and values.get("published") is True:
        values = {key: value for key, value in values.items() if key not in CORRECTIONS}
    merged = {**values, **restored, **overrides}
    if overrides.get("loss") == {}:
        raise UserError("loss replaces single weights, by term: name at least one.", setting="loss")
    if isinstance(overrides.get("loss"), dict) and isinstance(values.get("loss"), dict):
        merged["loss"] = {term: w for term, w in {**values["loss"], **overrides["loss"]}.items() if w != 0}
    try:
        recipe = Recipe.model_validate(merged)
        if "steps" not in overrides or "warmup_steps" in overrides or "steps" not in values:
            return recipe
        before = Recipe.model_validate({**merged, "steps": values["steps"]})
    except ValidationError as error:
        raise UserError(f"Recipe {name}: {validation_problem(error, lambda _: Recipe.model_fields)}.") from None
    return recipe.model_copy(update={"warmup_steps": round(before.warmup_steps * recipe.steps / before.steps)})


def parse_setting(setting: str) -> dict[str, Any]:
    """A setting "key=value" as an override; the value is YAML, and "loss.mlm=2" sets one key of `loss`.

    Raises UserError where there is no "=" or the value is not YAML.
    """
    key, separator, value = setting.partition("=")
    if not separator or not key:
        raise UserError(f"A setting is key=value, not {setting!r}; for example learning_rate=3e-4.", setting="set")
    try:
        parsed = parse_yaml(value)
    except UserError as error:
        raise UserError(f"Setting {key}: {error}.", setting="set") from None
    except yaml.YAMLError:
        raise UserError(
            f"Setting {key}: {value!r} is not a YAML value; put text with YAML's special characters in quotes.",
            setting="set",
        ) from None
    outer, dot, inner = key.partition(".")
    return {outer: {inner: parsed}} if dot else {key: parsed}


def deviations(recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields in which a recipe differs from the packaged one of its name, as {field: (packaged, as run)}.

    Empty where no packaged recipe has the name.
    """
    if recipe.name not in names():
        return {}
    packaged = load(recipe.name).model_dump()
    return {key: (packaged[key], value) for key, value in recipe.model_dump().items() if packaged[key] != value}


def _unknown_recipe(name: str) -> str:
    return f"There is no recipe or file {name!r}{nearest(name, names())}."
