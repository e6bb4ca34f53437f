"""A suite: the models, data sets and seeds of a comparison, as a YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from compactbio.errors import UserError, check_named, validation_problem
from compactbio.files import read_yaml


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is there twice; name each once")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
Settings = dict[str, Any]
FILES = ("train", "devel", "test", "gold")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSet(_Strict):
    """A data set: a folder in `path`, or its files one by one."""

    path: Path | None = None  # a folder with numbered folders holds folds
    train: Path | None = None
    devel: Path | None = None
    test: Path | None = None
    gold: Path | None = None  # the answers of test questions
    task: Literal["ner", "relation", "qa"] | None = None  # by default recognised
    format: str | None = None  # one of `formats.READABLE`; by default recognised
    seeds: Seeds | None = None  # instead of the suite's
    settings: Settings = {}  # of fine-tuning, in addition to the suite's

    @model_validator(mode="after")
    def _folder_or_files(self) -> Self:
        named = [key for key in FILES if getattr(self, key) is not None]
        if self.path is not None and named:
            raise ValueError(f"path names the folder, so {named[0]} cannot be given too; keep one of the two")
        if self.path is None and (self.train is None or self.test is None):
            raise ValueError("a data set needs path, or both train and test")
        return self

    @property
    def folds(self) -> tuple[str, ...]:
        """The names of the numbered folders in `path`, in the order of their numbers; empty where there are none."""
        if self.path is None or not self.path.is_dir():
            return ()
        named = (entry.name for entry in self.path.iterdir() if entry.is_dir())
        return tuple(sorted((name for name in named if name.isdecimal()), key=int))


class Suite(_Strict):
    """What is compared."""

    models: Annotated[dict[str, str], Field(min_length=1)]  # folders or hub names by the name in the table
    data: Annotated[dict[str, DataSet], Field(min_length=1)]  # by the name in the table
    seeds: Seeds = (0,)  # a run each
    baseline: str  # the model that the others are tested against; by default the first
    teacher: str | None = None  # the model whose score theirs are a share of
    settings: Settings = {}  # of fine-tuning
    train_on: Literal["train", "train+devel"] = "train"

    @model_validator(mode="after")
    def _seeds_apart(self) -> Self:
        for place, settings in [("the suite", self.settings), *((k, d.settings) for k, d in self.data.items())]:
            if "seed" in settings:
                raise ValueError(f"the settings of {place} name a seed; write it under seeds")
        return self

    @model_validator(mode="after")
    def _known_models(self) -> Self:
        for key in ("baseline", "teacher"):
            name = getattr(self, key)
            if name is not None and name not in self.models:
                raise ValueError(f"{key} {name!r} is not among the models ({', '.join(self.models)})")
        return self

    def seeds_for(self, data: str) -> tuple[int, ...]:
        """The seeds of a data set: its own, or the suite's."""
        return self.data[data].seeds or self.seeds

    def settings_for(self, data: str) -> Settings:
        """The settings of fine-tuning on a data set: the suite's, overridden by its own."""
        return {**self.settings, **self.data[data].settings}


def load(path: str | Path) -> Suite:
    """Read a suite and find its folders and files, beside the suite where they are relative.

    Raises UserError, naming file and key, for what is unknown, missing or out of range, and for a path that does not
    exist.
    """
    path = Path(check_named(path, "The suite"))
    values = _with_defaults(read_yaml(path, "Suite"))
    try:
        suite = Suite.model_validate(values)
    except ValidationError as error:
        problem = validation_problem(error, lambda place: (DataSet if place[0] == "data" else Suite).model_fields)
        raise UserError(f"Suite {path}: {problem}.") from None
    models = {name: _model(path, name, where) for name, where in suite.models.items()}
    data = {name: _data(path, name, found) for name, found in suite.data.items()}
    return suite.model_copy(update={"models": models, "data": data})


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The mapping with the first model for baseline, and a data set's bare path in full."""
    models, data = values.get("models"), values.get("data")
    if isinstance(models, dict) and models:
        values = {"baseline": next(iter(models)), **values}
    if isinstance(data, dict):
        values = {**values, "data": {k: {"path": v} if isinstance(v, str) else v for k, v in data.items()}}
    return values


def _model(suite: Path, name: str, where: str) -> str:
    local = suite.parent / Path(where).expanduser()
    if local.exists():
        return str(local)
    if where.startswith((".", "/", "~")):
        raise UserError(f"Suite {suite}: models.{name}: there is no folder {local}; fix the path.")
    return where


def _data(suite: Path, name: str, data: DataSet) -> DataSet:
    found: dict[str, Path] = {}
    for key in ("path", *FILES):
        where = getattr(data, key)
        if where is None:
            continue
        found[key] = suite.parent / where.expanduser()
        if not found[key].exists():
            place = f"data.{name}" if key == "path" else f"data.{name}.{key}"
            raise UserError(f"Suite {suite}: {place}: there is no {found[key]}; fix the path.")
    return data.model_copy(update=found)
