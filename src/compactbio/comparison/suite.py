"""A suite: the models, data sets and seeds of a comparison, as a YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from compactbio.errors import UserError, check_named, validation_problem
from compactbio.files import read_yaml
from compactbio.tasks.settings import OF_TEACHERS, OF_TEXTS


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is there twice; name each once")
    return seeds


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, str | list | tuple):
        raise ValueError("name one, or a list of them")
    return [value] if isinstance(value, str) else list(value)


def _not_empty(value: Any) -> Any:
    # An empty path would be the folder of the suite.
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty; name a path")
    return value


# A text alone stands for a mapping with this path, or a list of it.
_BY_PATH = BeforeValidator(lambda value: {"path": value} if isinstance(value, str) else value)
_LISTED, _NAMED = BeforeValidator(_listed), BeforeValidator(_not_empty)
Place = Annotated[Path, _NAMED]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
Settings = dict[str, Any]
FILES = ("train", "devel", "test", "gold")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Model(_Strict):
    """A model: where its fine-tuning starts, and whom it learns from beside the labels."""

    path: Annotated[str, _NAMED]  # a folder or hub name
    # Models of the suite: their runs on the same data with the same seed teach it.
    teachers: Annotated[tuple[str, ...], _LISTED] = ()


class DataSet(_Strict):
    """A data set: a folder in `path`, or its files one by one."""

    path: Place | None = None  # a folder with numbered folders holds folds
    train: Place | None = None
    devel: Place | None = None
    test: Place | None = None
    gold: Place | None = None  # the answers of test questions
    task: Literal["ner", "relation", "qa"] | None = None  # by default recognised
    format: str | None = None  # one of `formats.READABLE`; by default recognised
    seeds: Seeds | None = None  # instead of the suite's
    # Files and folders of texts that models with teachers learn from too.
    unlabelled: Annotated[tuple[Place, ...], _LISTED] = ()
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

    # By the name in the table, or the path of each alone.
    models: Annotated[dict[str, Annotated[Model, _BY_PATH]], Field(min_length=1)]
    data: Annotated[dict[str, Annotated[DataSet, _BY_PATH]], Field(min_length=1)]
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
        before: list[str] = []
        for model, start in self.models.items():
            for name in start.teachers:
                if name not in before:
                    known = f"only {', '.join(before)}" if before else "none"
                    raise ValueError(
                        f"the teacher {name!r} of {model} must be a model that is named before it ({known})"
                    )
            if len(set(start.teachers)) < len(start.teachers):
                raise ValueError(f"a teacher of {model} is there twice; name each once")
            before.append(model)
        return self

    @model_validator(mode="after")
    def _taught(self) -> Self:
        taught = any(model.teachers for model in self.models.values())
        texts = any(data.unlabelled for data in self.data.values())
        if texts and not taught:
            raise ValueError("unlabelled texts are for models with teachers; name teachers, or leave them out")
        places = [("the suite", self.settings, texts), *((k, d.settings, d.unlabelled) for k, d in self.data.items())]
        for place, settings, has_texts in places:
            for key in settings:
                if key in OF_TEACHERS and not taught:
                    raise ValueError(
                        f"{key} (settings of {place}) is for models with teachers; name one, or leave it out"
                    )
                if key in OF_TEXTS and not has_texts:
                    raise ValueError(f"{key} (settings of {place}) is for unlabelled texts; name some, or leave it out")
        return self

    @property
    def places(self) -> list[Path]:
        """The folders and files of data and texts that are read."""
        files = ("path", *FILES)
        named = (
            place for data in self.data.values() for place in (*(getattr(data, key) for key in files), *data.unlabelled)
        )
        return [place for place in named if place is not None]

    @property
    def levels(self) -> dict[str, int]:
        """By model how many teachers stand above each other: 0 for one without, 1 for one taught by such, and so on."""
        found: dict[str, int] = {}
        for name, model in self.models.items():
            found[name] = max((found[teacher] + 1 for teacher in model.teachers), default=0)
        return found

    def seeds_for(self, data: str) -> tuple[int, ...]:
        """The seeds of a data set: its own, or the suite's."""
        return self.data[data].seeds or self.seeds

    def texts_for(self, model: str, data: str) -> tuple[Path, ...]:
        """The unlabelled texts that a model learns from with a data set; none for one without teachers."""
        return self.data[data].unlabelled if self.models[model].teachers else ()

    def settings_for(self, model: str, data: str) -> Settings:
        """The settings of fine-tuning a model on a data set: the suite's, overridden by the data set's, less those that
        are for teachers or unlabelled texts that it does not have."""
        values = {**self.settings, **self.data[data].settings}
        teaching = () if self.models[model].teachers else OF_TEACHERS
        sampling = () if self.texts_for(model, data) else OF_TEXTS
        return {key: value for key, value in values.items() if key not in (*teaching, *sampling)}


def load(path: str | Path) -> Suite:
    """Read a suite and find its folders and files, beside the suite where they are relative.

    Raises UserError, naming file and key, for what is unknown, missing or out of range, and for a path that does not
    exist.
    """
    path = Path(check_named(path, "The suite"))
    values = _with_defaults(read_yaml(path, "Suite"))
    for part in _PARTS:
        named = values.get(part)
        for name in named if isinstance(named, dict) else ():
            if not isinstance(name, str):
                raise UserError(f"Suite {path}: {part}: {name!r} is not text as YAML reads it: put the name in quotes.")
    try:
        suite = Suite.model_validate(values)
    except ValidationError as error:
        problem = validation_problem(error, lambda place: _PARTS.get(place[0], Suite).model_fields)
        raise UserError(f"Suite {path}: {problem}.") from None
    models = {name: _model(path, name, model) for name, model in suite.models.items()}
    data = {name: _data(path, name, found) for name, found in suite.data.items()}
    return suite.model_copy(update={"models": models, "data": data})


_PARTS: dict[Any, type[_Strict]] = {"models": Model, "data": DataSet}


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The mapping with the first model for baseline."""
    models = values.get("models")
    return {"baseline": next(iter(models)), **values} if isinstance(models, dict) and models else values


def _model(suite: Path, name: str, model: Model) -> Model:
    where = model.path
    local = suite.parent / Path(where).expanduser()
    if local.exists():
        return model.model_copy(update={"path": str(local)})
    if where.startswith((".", "/", "~")):
        raise UserError(f"Suite {suite}: models.{name}: there is no folder {local}; fix the path.")
    return model


def _data(suite: Path, name: str, data: DataSet) -> DataSet:
    found: dict[str, Any] = {"unlabelled": tuple(suite.parent / text.expanduser() for text in data.unlabelled)}
    for text in found["unlabelled"]:
        if not text.exists():
            raise UserError(f"Suite {suite}: data.{name}.unlabelled: there is no {text}; fix the path.")
    for key in ("path", *FILES):
        where = getattr(data, key)
        if where is None:
            continue
        found[key] = suite.parent / where.expanduser()
        if not found[key].exists():
            place = f"data.{name}" if key == "path" else f"data.{name}.{key}"
            raise UserError(f"Suite {suite}: {place}: there is no {found[key]}; fix the path.")
    return data.model_copy(update=found)
