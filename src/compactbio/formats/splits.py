"""The files of a data set: which is for training, which for development, which for the test."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compactbio.errors import UserError
from compactbio.formats.sources import visible

Role = Literal["train", "devel", "test", "gold"]
_ROLES: tuple[Role, ...] = ("train", "devel", "test", "gold")
_WORDS = {
    "train": ("train", "training"),
    "devel": ("dev", "devel", "develop", "development", "val", "valid", "validation"),
    "test": ("test", "testing"),
    "gold": ("gold", "golden", "goldstandard"),
}


@dataclass(frozen=True)
class Splits:
    """A data set's files, or BRAT folders, by split; `gold` holds the answers to a test split without any."""

    train: Path | None = None
    devel: Path | None = None
    test: Path | None = None
    gold: Path | None = None


def splits(folder: Path) -> Splits:
    """Find the splits of a data set by the words in the names of its folder, case ignored: train, dev or valid, test,
    gold, each perhaps with "set" at its end; a word that only holds one of these ("latest") is none.

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


def has_splits(folder: Path) -> bool:
    """Whether a folder has a train or a test file."""
    found = _candidates(folder)
    return bool(found["train"] or found["test"])


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
    if path.name.startswith("."):
        return None
    words = _words(path.name)
    gold, dev, train = (any(word in _WORDS[role] for word in words) for role in ("gold", "devel", "train"))
    if gold:
        return "gold"
    if dev or train:
        return None if dev and train else "devel" if dev else "train"
    return "test" if any(word in _WORDS["test"] for word in words) else None


def _words(name: str) -> list[str]:
    """The words of a file's name in small letters: between signs and digits, and where capitals begin or end one."""
    stem = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    found = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", Path(stem).stem)
    # NCBItrainset: the word after an acronym has its small letters alone.
    tails = [word.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for word in found]
    return [word.lower().removesuffix("set") for word in (*found, *tails)]


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(file.suffix == ".txt" for file in visible(path))
    return path.stat().st_size > 0
