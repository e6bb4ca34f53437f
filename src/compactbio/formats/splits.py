"""The files of a data set: which is for training, which for development, which for the test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compactbio.errors import UserError

Role = Literal["train", "devel", "test", "gold"]
_ROLES: tuple[Role, ...] = ("train", "devel", "test", "gold")


@dataclass(frozen=True)
class Splits:
    """A data set's files, or BRAT folders, by split; `gold` holds the answers to a test split without any."""

    train: Path | None = None
    devel: Path | None = None
    test: Path | None = None
    gold: Path | None = None


def splits(folder: Path) -> Splits:
    """Find the splits of a data set by the names in its folder, case ignored: train, dev or valid, test, gold.

    Files of training and development together (`train_dev`) are passed over, and so are hidden and empty ones. Raises
    UserError for two files of one split, and for neither a train nor a test file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    found = _candidates(folder)
    for role, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise UserError(f"{folder}: {names} are all {role} files; leave one of each in the folder.")
    if not found["train"] and not found["test"]:
        raise UserError(f"{folder}: no file with train or test in its name is in it; name the files so.")
    return Splits(**{role: paths[0] for role, paths in found.items() if paths})


def folds(folder: Path) -> list[Path]:
    """The folds of a data set in the order of their numbers: the sub-folders that are named by numbers.

    Empty where there is none, or one lacks a train or a test file.
    """
    if not folder.is_dir():
        return []
    numbered = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    if not all(found["train"] and found["test"] for found in map(_candidates, numbered)):
        return []
    return sorted(numbered, key=lambda path: int(path.name))


def _candidates(folder: Path) -> dict[Role, list[Path]]:
    found: dict[Role, list[Path]] = {role: [] for role in _ROLES}
    for path in sorted(folder.iterdir()):
        role = _role(path)
        if role and _holds_something(path):
            found[role].append(path)
    return found


def _role(path: Path) -> Role | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    stem = Path(name.removesuffix(".gz")).stem
    gold, dev, train = "gold" in stem, "dev" in stem or "valid" in stem, "train" in stem
    if gold:
        return "gold"
    if dev or train:
        return None if dev and train else "devel" if dev else "train"
    return "test" if "test" in stem else None


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.txt"))
    return path.stat().st_size > 0
