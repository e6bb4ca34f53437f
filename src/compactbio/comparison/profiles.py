"""Size and speed of the models of a suite, measured on this machine once and kept beside its runs."""

from collections.abc import Callable
from pathlib import Path

from compactbio.comparison.suite import Suite
from compactbio.comparison.table import Profile
from compactbio.deploy.profile import profile
from compactbio.files import read_json, write_json
from compactbio.modeling import loading


def profiles_of(suite: Suite, out: Path, report: Callable[[str], None]) -> dict[str, Profile]:
    """The profile of each model by its name in the suite, kept in `profiles.json`; `report` gets a line of progress."""
    path = out / "profiles.json"
    digests = {name: loading.find(where).digest for name, where in suite.models.items()}
    try:
        kept = read_json(path)
    except (OSError, ValueError):
        kept = None
    if isinstance(kept, dict) and kept.get("digests") == digests and "profiles" in kept:
        return kept["profiles"]  # type: ignore[no-any-return]
    models = list(dict.fromkeys(suite.models.values()))
    report(f"Measuring the speed of {len(models)} models ...")
    measured = dict(zip(models, profile(models), strict=True))
    profiles: dict[str, Profile] = {
        name: {
            "parameters": measured[model].encoder_parameters,
            "tokens_per_second": measured[model].throughput_tokens_per_second,
            "latency_ms": measured[model].latency_ms,
        }
        for name, model in suite.models.items()
    }
    write_json(path, {"digests": digests, "profiles": profiles})
    return profiles
