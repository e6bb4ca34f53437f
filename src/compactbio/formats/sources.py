"""From what a user names (files, folders, patterns) to the files to read, and the splits of a data set."""

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compactbio.errors import UserError

# By extension; a folder's .json files are as often settings as records, so they count only where they are named.
KINDS = {".xml": "xml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}
_DOCUMENTATION = re.compile(
    r"[0-9_]*(?:read[-_ ]?me|licen[cs]e|copying|changelog|citation|contributing)(?![a-z]).*", re.IGNORECASE
)
_NAMED = 5


@dataclass(frozen=True)
class Sources:
    """The files of what a user named, each once, ordered by file name and then path, and those that were passed over in
    folders and patterns."""

    files: tuple[Path, ...]
    passed_over: tuple[Path, ...]

    def notes(self) -> list[str]:
        """Sentences on what was passed over, and on plain text that stands among records."""
        found = []
        if self.passed_over:
            found.append(f"passed over, no sources: {named(self.passed_over)}")
        texts = [path for path in self.files if kind_of(path) == "text"]
        if 0 < len(texts) < len(self.files):
            found.append(f"read as plain text, a document a line, beside records: {named(texts)}")
        return found


def find(inputs: Iterable[str | Path]) -> tuple[Path, ...]:
    """The files of `search`."""
    return search(inputs).files


def search(inputs: Iterable[str | Path]) -> Sources:
    """The files that the inputs name.

    A folder gives all files below it with a known extension, hidden ones and a README and the like left out; a file
    named outright is taken whatever its extension. `.md5` files are passed over, so that `folder/*` works on a mirror
    of the NLM's. Raises UserError for an input that does not exist, a pattern without a match and a folder without a
    source.
    """
    found, passed_over = set[Path](), set[Path]()
    for name in inputs:
        files, others = _expand(str(name))
        found |= {path.resolve() for path in files}
        passed_over |= {path.resolve() for path in others}
    return Sources(ordered(found), ordered(passed_over - found))


def kind_of(path: Path) -> str:
    """The kind of a file by its extension: "xml", "jsonl", "parquet", "text", or the extension itself."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return KINDS.get(suffix, suffix.removeprefix(".") or "other")


def is_documentation(path: Path) -> bool:
    """Whether a file describes the folder that it stands in: a README, a licence and the like."""
    return _DOCUMENTATION.fullmatch(path.name) is not None and kind_of(path) in ("text", "md", "rst", "other")


def named(paths: Sequence[Path]) -> str:
    """The names of files, the first few of many."""
    names = [path.name for path in paths]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def visible(folder: Path) -> Iterator[Path]:
    """The files in and below a folder, without hidden ones and those in hidden folders."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def ordered(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The files by name, then by path."""
    return tuple(sorted(paths, key=lambda path: (path.name, str(path))))


def _expand(name: str) -> tuple[list[Path], list[Path]]:
    """The sources that a name stands for, and the files that were passed over."""
    path = Path(name)
    if path.is_dir():
        files, others = _below(path)
        if not files:
            raise UserError(f"{path}: no file of citations in it (.xml, .jsonl, .ndjson, .parquet, .txt; also .gz).")
        return files, others
    if path.exists():
        return ([], []) if path.suffix == ".md5" else ([path], [])
    if not glob.has_magic(name):
        raise UserError(f"{name}: no such file or folder.")
    matched, passed_over = list[Path](), list[Path]()
    for match in map(Path, glob.glob(name, recursive=True)):  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files, others = _below(match) if match.is_dir() else _parted([match])
        matched += files
        passed_over += others
    if not matched:
        raise UserError(f"{name}: no file of citations matches this pattern.")
    return matched, passed_over


def _parted(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files that are no documentation, and those that are; `.md5` files are neither."""
    files = [path for path in paths if path.suffix != ".md5"]
    return [p for p in files if not is_documentation(p)], [p for p in files if is_documentation(p)]


def _below(folder: Path) -> tuple[list[Path], list[Path]]:
    files, others = _parted(visible(folder))
    known = [path for path in files if kind_of(path) in KINDS.values()]
    return known, [*others, *(path for path in files if kind_of(path) not in KINDS.values())]


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
