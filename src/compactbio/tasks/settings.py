"""How a model is fine-tuned: the settings of a run, and good ones for each task without a search."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compactbio.errors import UserError, validation_problem


class Settings(BaseModel):
    """The settings of a fine-tuning run.

    `batch_size` is in rows: sentences, or windows of a passage. `warmup` is the share of the steps. `max_length` is in
    tokens, `stride` (QA) how many of them neighbouring windows share. `negative` are the classes of no relation and
    `scheme` how classes are made, as of `tasks.scheme.scheme`; None where the labels decide. `joined_signs` (NER) are
    the neighbourhoods in which a sign stays in its word, as of `documents.words.joined_signs`; None where the training
    data decide.
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

    def record(self) -> dict[str, Any]:
        """As a JSON value; what is left to the labels is not in it."""
        return self.model_dump(exclude_none=True)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "ner": {"epochs": 5, "batch_size": 32, "max_length": 512},
    "relation": {"epochs": 5, "batch_size": 32, "max_length": 256},
    "qa": {"epochs": 3, "batch_size": 16, "max_length": 384},
}


def settings(task: str, width: int, overrides: dict[str, Any]) -> Settings:
    """The settings of a task for an encoder of some width, with some set otherwise.

    The default learning rate is 5e-5 at width 768 and grows as the width shrinks: smaller models want larger steps.
    Raises UserError for a setting that there is none of, or a value out of its range.
    """
    owners = {"negative": "relation", "scheme": "relation", "joined_signs": "ner"}
    aimless = [key for key, owner in owners.items() if task != owner and overrides.get(key) is not None]
    if aimless:
        raise UserError(f"{aimless[0]} is for the task {owners[aimless[0]]}, the data are of {task}: leave it out.")
    if isinstance(overrides.get("negative"), str):
        overrides = {**overrides, "negative": [overrides["negative"]]}
    defaults = {**_DEFAULTS[task], "learning_rate": round(5e-5 * 768 / width, 7)}
    try:
        return Settings(**{**defaults, **overrides})
    except ValidationError as error:
        problem = validation_problem(error, lambda _: Settings.model_fields)
        raise UserError(f"Settings of fine-tuning: {problem}.") from None
