"""Size and speed of the models of a comparison."""

from collections.abc import Callable, Sequence
from pathlib import Path

from compactbio.comparison.suite import Suite
from compactbio.comparison.table import Profile, Run
from compactbio.deploy.profile import Conditions, profile
from compactbio.errors import UserError
from compactbio.files import read_json_or_none, write_json
from compactbio.modeling import loading


def profiles_of(suite: Suite, runs: Sequence[Run], out: Path, report: Callable[[str], None]) -> dict[str, Profile]:
    """The profile of each model with a run that is done, by its name in the suite, kept in `profiles.json`.

    `report` gets a line of progress, and one on each model that is not measured.
    """
    path, done = out / "profiles.json", {run.model for run in runs if run.state == "done"}
    places = {name: model.path for name, model in suite.models.items() if name in done}
    for name in (name for name in suite.models if name not in done):
        report(f"{name}: its speed is not measured, as none of its runs is done")
    digests = {name: loading.find(where).digest for name, where in places.items()}
    kept = read_json_or_none(path)
    if isinstance(kept, dict) and kept.get("digests") == digests and _whole(kept.get("profiles")):
        return kept["profiles"]  # type: ignore[no-any-return]
    models = list(dict.fromkeys(places.values()))
    if not models:
        return {}
    report(f"Measuring the speed of {len(models)} model{'s' if len(models) > 1 else ''} ...")
    try:
        measured = dict(zip(models, profile(models), strict=True))
    except UserError as error:  # a report without speeds is better than none
        report(f"The speed is not measured: {error}")
        return {}
    profiles: dict[str, Profile] = {
        name: {
            "parameters": measured[model].encoder_parameters,
            "tokens_per_second": measured[model].throughput_tokens_per_second,
            "latency_ms": measured[model].latency_ms,
            "measured": _in_words(measured[model].conditions),
        }
        for name, model in places.items()
    }
    write_json(path, {"digests": digests, "profiles": profiles})
    return profiles


def _whole(profiles: object) -> bool:
    """Whether kept profiles have all that is reported; those of older versions do not say where they were measured."""
    found = profiles.values() if isinstance(profiles, dict) else [None]
    return all(isinstance(one, dict) and set(Profile.__annotations__) <= set(one) for one in found)


def _in_words(conditions: Conditions) -> str:
    device = conditions.processor if conditions.device == "cpu" else conditions.device
    return (
        f"{device}, {conditions.threads} threads, {conditions.precision}, torch {conditions.torch}; one sentence of "
        f"{conditions.latency_tokens} tokens, and batches of {conditions.sentences} sentences of "
        f"{conditions.sentence_tokens}"
    )
