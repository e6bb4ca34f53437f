"""`calibration.json` in a model's folder: the calibration of each runtime, and of which weights and tokenizer it is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compactbio.cards import plots
from compactbio.files import atomic_file, write_json
from compactbio.modeling import runtimes
from compactbio.modeling.loading import Source
from compactbio.tasks.calibration import Calibration, Point

NAME = "calibration.json"
PICTURE = "calibration.png"
# The precisions that a card says the lowest score of.
_PRECISIONS = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Kept:
    """A calibration, and the digests of what its runtime reads (`runtimes.digest`), and of how texts are read."""

    digest: str
    calibration: Calibration
    reading: str | None = None  # in a file of an earlier version


_FILE = TypeAdapter(dict[str, Kept])


def read(folder: Path) -> dict[str, Kept] | None:
    """The calibrations of a folder by runtime, {} where it has no file, None where the file is damaged."""
    try:
        return _FILE.validate_json((folder / NAME).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        return None


def summary(folder: Path) -> dict[str, dict[str, Any]]:
    """The calibrations of a folder by runtime as a card shows them: without the curves, and with the lowest scores that
    keep a precision (`lowest`, of each type by precision the point of its curve, None where there is none)."""
    return {
        name: {
            **without_curves(kept.calibration),
            "lowest": {
                kind: {precision: _record(curve.point_for(precision)) for precision in _PRECISIONS}
                for kind, curve in kept.calibration.types.items()
            },
            "picture": PICTURE if (folder / PICTURE).exists() else None,
        }
        for name, kept in (read(folder) or {}).items()
    }


def _record(point: Point | None) -> dict[str, Any] | None:
    return asdict(point) if point else None


def without_curves(calibration: Calibration) -> dict[str, Any]:
    """A calibration as a JSON value, without bins and the curves of its types."""
    return {
        key: value for key, value in asdict(calibration).items() if key not in ("types", "bins_before", "bins_after")
    }


def keep(source: Source, runtime: str, calibration: Calibration) -> None:
    """Write a model's calibration on a runtime into its folder, beside those of other runtimes, and a picture where
    matplotlib is there."""
    folder = source.folder
    known: Mapping[str, Kept] = read(folder) or {}
    kept: dict[str, Any] = {name: asdict(one) for name, one in known.items()}
    kept[runtime] = asdict(Kept(runtimes.digest(source, runtime), calibration, source.reading))
    write_json(folder / NAME, kept)
    drawn = {name: one["calibration"] for name, one in kept.items() if one["calibration"]["bins_after"]}
    # One of other figures must not be left.
    (folder / PICTURE).unlink(missing_ok=True)
    if drawn and plots.available():
        with atomic_file(folder / PICTURE) as partial:
            partial.write_bytes(plots.png(plots.calibration_figure(drawn)))


def find(source: Source, runtime: str) -> tuple[Calibration | None, str | None]:
    """The calibration of a model on a runtime, None where there is none, and a sentence on why one is not used."""
    known = read(source.folder)
    name = source.public_name()
    if known is None:
        return None, f"{name}: its {NAME} cannot be read, so its scores are not calibrated."
    if not known:
        return None, None
    if runtime not in known:
        return None, f"{name}: its {NAME} is of {', '.join(known)}, so its scores on {runtime} are not calibrated."
    if known[runtime].digest != runtimes.digest(source, runtime):
        return None, (
            f"{name}: its {NAME} is of other weights, or of another config.json, than {runtime} reads, so its scores "
            "are not calibrated."
        )
    if known[runtime].reading not in (None, source.reading):
        return None, f"{name}: its {NAME} is of another tokenizer than its own, so its scores are not calibrated."
    return known[runtime].calibration, None
