"""Recipes: a compact model as data. `names()` lists the packaged ones, `load()` reads one of them or a file."""

import difflib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compactbio.errors import UserError


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


__all__ = ["CORRECTIONS", "LossTerm", "Recipe", "deviations", "load", "names", "parse_setting", "text"]

_PACKAGED = resources.files("compactbio.recipes") / "published"


def names() -> list[str]:
    """The names of the packaged recipes, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PACKAGED.iterdir() if entry.name.endswith(".yaml"))


def text(name: str) -> str:
    """The YAML of a packaged recipe with its comments. Raises UserError for a name that is none."""
    if name not in names():
        raise UserError(_unknown_recipe(name))
    return (_PACKAGED / f"{name}.yaml").read_text(encoding="utf-8")


def load(name_or_path: str | Path, **overrides: Any) -> Recipe:
    """Read a packaged recipe or a YAML file and lay `overrides` over it.

    `loss` given as an override replaces single weights, by term. Where `steps` is overridden and `warmup_steps` is
    not, the warm-up keeps its share of the steps. Raises UserError for an unknown recipe or key (naming the nearest),
    and for a value out of range.
    """
    name = str(name_or_path)
    if name in names():
        values = _mapping(text(name), name)
    elif Path(name).is_file():
        values = _mapping(_read(Path(name)), name)
        values.setdefault("name", Path(name).stem)
    else:
        raise UserError(_unknown_recipe(name))
    _check_keys(values, name)
    _check_keys(overrides, "the settings")
    if "steps" in overrides and "warmup_steps" not in overrides:
        overrides = {**overrides, "warmup_steps": _scaled_warmup(values, overrides["steps"])}
    restored = CORRECTIONS if overrides.get("published") is True else {}
    merged = {**values, **restored, **overrides}
    if isinstance(overrides.get("loss"), dict) and isinstance(values.get("loss"), dict):
        merged["loss"] = {term: w for term, w in {**values["loss"], **overrides["loss"]}.items() if w != 0}
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise UserError(f"Recipe {name}: {_first_problem(error)}") from None


def parse_setting(setting: str) -> dict[str, Any]:
    """One `key=value` of the command line as an override; the value is YAML, `loss.mlm=2` reaches into `loss`.

    Raises UserError where there is no `=`.
    """
    key, separator, value = setting.partition("=")
    if not separator or not key:
        raise UserError(f"--set takes key=value, not {setting!r}; for example --set learning_rate=3e-4.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {key}: {value!r} is no YAML value; quote text that holds signs of YAML.") from None
    if isinstance(parsed, str):
        parsed = _number(parsed)
    outer, dot, inner = key.partition(".")
    return {outer: {inner: parsed}} if dot else {key: parsed}


def deviations(recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields in which a recipe differs from the packaged one of its name, as {field: (packaged, as run)}.

    Where no packaged recipe has the name, every field is its own and the answer is empty.
    """
    if recipe.name not in names():
        return {}
    packaged = load(recipe.name).model_dump()
    return {key: (packaged[key], value) for key, value in recipe.model_dump().items() if packaged[key] != value}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"Recipe {path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None


def _number(text: str) -> str | float:
    # YAML 1.1 reads 5e-4 as text: it wants 5.0e-4.
    try:
        return float(text)
    except ValueError:
        return text


def _mapping(content: str, name: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise UserError(f"Recipe {name} is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise UserError(f"Recipe {name} is not a mapping of keys to values; start from `compactbio recipes show NAME`.")
    return {str(key): _number(value) if isinstance(value, str) else value for key, value in values.items()}


def _check_keys(values: dict[str, Any], where: str) -> None:
    for key in values:
        if key not in Recipe.model_fields:
            raise UserError(f"Unknown key {key!r} in {where}{_nearest(key, list(Recipe.model_fields))}")
    terms = [term.value for term in LossTerm]
    for term in values["loss"] if isinstance(values.get("loss"), dict) else ():
        if term not in terms:
            raise UserError(f"Unknown loss term {term!r} in {where}{_nearest(str(term), terms)}")


def _scaled_warmup(values: dict[str, Any], steps: Any) -> Any:
    published, warmup = values.get("steps"), values.get("warmup_steps", 0)
    if not (isinstance(steps, int) and isinstance(published, int) and isinstance(warmup, int)) or published < 1:
        return warmup  # the schema says what is wrong
    return round(warmup * steps / published)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; the nearest known one is {close[0]!r}." if close else f"; known are {', '.join(sorted(known))}."


def _unknown_recipe(name: str) -> str:
    return f"There is no recipe or file {name!r}{_nearest(name, names())}"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (got {problem['input']!r})." if place else message
