"""From what a user names (files, folders, patterns) to the files to read, and the splits of a data set."""

import glob
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compactbio.errors import UserError, check_named

# By extension; a folder's .json files are as often settings as records, so they count only where they are named.
KINDS = {".xml": "xml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}
# Further kinds that hold texts to annotate.
_TEXT_KINDS = ("pubtator", "conll", "json")
# Of BRAT and, in two files per document, of the BioNLP shared tasks.
ANNOTATIONS = (".ann", ".a1", ".a2")
_DOCUMENTATION = re.compile(
    r"[0-9_]*(?:read[-_ ]?me|licen[cs]e|copying|changelog|citation|contributing)(?![a-z]).*", re.IGNORECASE
)
_NAMED = 5


@dataclass(frozen=True)
class Sources:
    """The files of what a user named, each once, and those that were passed over in folders and patterns."""

    files: tuple[Path, ...]
    passed_over: tuple[Path, ...]

    def notes(self) -> list[str]:
        """Sentences on what was passed over, and on plain text that is among records."""
        found = []
        if self.passed_over:
            found.append(f"passed over, not sources: {_names(self.passed_over)}")
        texts = [path for path in self.files if _kind(path) == "text"]
        if 0 < len(texts) < len(self.files):
            found.append(f"read as plain text, a document per line, beside records: {_names(texts)}")
        return found


def find_citations(inputs: Iterable[str | Path]) -> Sources:
    """The files of citations that `inputs` (files, folders or glob patterns) name, by file name and then path.

    A folder gives all files in and below it with a known extension, but hidden ones and a README and the like; a file
    that is named is taken whatever its extension. `.md5` files are passed over, so that `folder/*` works on a mirror
    of the NLM's. Raises UserError for a name of nothing, a pattern without a match, and a folder without a source.
    """
    found, passed_over = set[Path](), set[Path]()
    for name in inputs:
        check_named(name, "The name of an input")
        files, others = _expand(str(name))
        found |= {path.resolve() for path in files}
        passed_over |= {path.resolve() for path in others}
    return Sources(_ordered(found), _ordered(passed_over - found))


def find_texts(inputs: Iterable[str | Path]) -> Sources:
    """The files of texts that the inputs name, in their order, and folders of `.txt` files, which are read as one.

    Raises UserError as `find_citations` does, and for a folder, or the files of a pattern, of several kinds.
    """
    found, passed_over = list[Path](), list[Path]()
    for name in inputs:
        check_named(name, "The name of an input")
        path = Path(name)
        files, others = _texts_in(path) if path.is_dir() else _texts_named(str(name))
        found += files
        passed_over += others
    return Sources(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(passed_over)))


def _texts_in(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    """The files of a folder that are read, or the folder itself, and those that are passed over."""
    kinds, passed_over = defaultdict[str, list[Path]](list), list[Path]()
    standoff = set(standoff_texts(folder)) if is_standoff(folder) else set()
    for file in visible(folder):
        if file in standoff:
            kinds["brat"].append(file)
        elif _kind(file) in (*KINDS.values(), *_TEXT_KINDS) and not _is_documentation(file):
            kinds[_kind(file)].append(file)
        else:
            passed_over.append(file)
    if len(kinds) > 1:
        passed_over += kinds.pop("json", [])
    _check_one_kind(folder, kinds)
    if not kinds:
        known = ", ".join((*KINDS, ".pubtator", ".conll", ".json", ".txt with .ann, .a1 or .a2"))
        raise UserError(f"{folder}: no file of texts in it ({known}; also .gz).")
    [(kind, files)] = kinds.items()
    if kind in ("brat", "text") and not any(file.suffix == ".gz" for file in files):
        return [folder], _ordered(passed_over)
    return _ordered(files), _ordered(passed_over)


def _texts_named(name: str) -> tuple[Sequence[Path], Sequence[Path]]:
    found = find_citations([name])
    if not Path(name).exists():
        kinds = defaultdict[str, list[Path]](list)
        for file in found.files:
            kinds[_kind(file)].append(file)
        _check_one_kind(Path(name), kinds)
    return found.files, found.passed_over


def _check_one_kind(place: Path, kinds: Mapping[str, Sequence[Path]]) -> None:
    if len(kinds) > 1:
        counts = (f"{len(files):,} {kind} ({_names(_ordered(files))})" for kind, files in sorted(kinds.items()))
        raise UserError(f"{place}: it holds files of several kinds: {', '.join(counts)}; name those that you mean.")


def _kind(path: Path) -> str:
    """The kind of a file by its extension: "xml", "jsonl", "parquet", "text", or the extension itself."""
    return KINDS.get(extension(path), extension(path).removeprefix(".") or "other")


def extension(path: Path) -> str:
    """The extension in small letters, that before .gz of a packed file."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _is_documentation(path: Path) -> bool:
    """Whether a file describes the folder that it is in: a README, a licence and the like."""
    return _DOCUMENTATION.fullmatch(path.name) is not None and _kind(path) in ("text", "md", "rst", "other")


def _names(paths: Sequence[Path]) -> str:
    """The names of files, the first few of many."""
    more = len(paths) - _NAMED
    return ", ".join(path.name for path in paths[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _ordered(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The files by name, then by path."""
    return tuple(sorted(paths, key=lambda path: (path.name, str(path))))


def visible(folder: Path) -> Iterator[Path]:
    """The files in and below a folder, without hidden ones and those in hidden folders."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(name.startswith(".") for name in path.relative_to(folder).parts):
            yield path


def is_standoff(path: Path) -> bool:
    """Whether a path is a folder with BRAT annotations in it or below, or one of the files of such a document."""
    if path.is_dir():
        return any(file.suffix in ANNOTATIONS for file in visible(path))
    return path.suffix in ANNOTATIONS or (path.suffix == ".txt" and bool(annotations_of(path)))


def standoff_texts(folder: Path) -> list[Path]:
    """The files in and below a folder of texts that documents are made of, annotations among them."""
    files = [file for file in visible(folder) if file.suffix in (".txt", *ANNOTATIONS)]
    return [file for file in files if not _is_documentation(file) or annotations_of(file)]


def annotations_of(text: Path) -> list[Path]:
    """The annotation files beside a text."""
    return [file for suffix in ANNOTATIONS if (file := text.with_suffix(suffix)).exists()]


def _expand(name: str) -> tuple[list[Path], list[Path]]:
    """The sources that a name stands for, and the files that were passed over."""
    path = Path(name)
    if path.is_dir():
        files, others = _divided(visible(path), KINDS.values())
        if not files:
            raise UserError(f"{path}: no file of citations in it (.xml, .jsonl, .ndjson, .parquet, .txt; also .gz).")
        return files, others
    if path.exists():
        return ([], []) if path.suffix == ".md5" else ([path], [])
    if not glob.has_magic(name):
        raise UserError(f"{name}: no such file or folder.")
    matched, passed_over = list[Path](), list[Path]()
    for match in map(Path, glob.glob(name, recursive=True)):  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files, others = _divided(visible(match), KINDS.values()) if match.is_dir() else _divided([match])
        matched += files
        passed_over += others
    if not matched:
        raise UserError(f"{name}: no file of citations matches this pattern.")
    return matched, passed_over


def _divided(paths: Iterable[Path], kinds: Collection[str] = ()) -> tuple[list[Path], list[Path]]:
    """The sources, of any kind or of these, and documentation and other files; `.md5` files are neither."""
    sources, others = list[Path](), list[Path]()
    for path in paths:
        if path.suffix != ".md5":
            passed_over = _is_documentation(path) or (kinds and _kind(path) not in kinds)
            (others if passed_over else sources).append(path)
    return sources, others


Role = Literal["train", "devel", "test", "gold"]
_SPLIT_WORDS: dict[Role, set[str]] = {
    "train": {"train", "training"},
    "devel": {"dev", "devel", "develop", "development", "val", "valid", "validation"},
    "test": {"test", "testing"},
    "gold": {"gold", "golden", "goldstandard"},
}


@dataclass(frozen=True)
class Splits:
    """A data set's files, or BRAT folders, by split; `gold` holds the answers to a test split without answers."""

    train: Path | None = None
    devel: Path | None = None
    test: Path | None = None
    gold: Path | None = None


def splits(folder: Path) -> Splits:
    """Find the splits of a data set by the words in its file names, case ignored: train, dev or valid, test, gold.

    A word may end in "set"; one that only contains such a word ("latest") does not count. Files of training and
    development together (`train_dev`), hidden ones and empty ones are passed over. Raises UserError for two files of
    one split, and where there is neither a train nor a test file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    found = _candidates(folder)
    for role, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise UserError(f"{folder}: {names} are all {role} files; leave one of them in the folder.")
    if not found["train"] and not found["test"]:
        raise UserError(f"{folder}: none of its files has train or test in its name; name them so.")
    return Splits(**{role: paths[0] for role, paths in found.items() if paths})


def has_splits(folder: Path) -> bool:
    """Whether a folder has a train or a test file."""
    found = _candidates(folder)
    return bool(found["train"] or found["test"])


def folds(folder: Path) -> list[Path]:
    """The folds of a data set, its sub-folders with numbers as names, in order; empty where one lacks train or test."""
    if not folder.is_dir():
        return []
    numbered = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    if not all(found["train"] and found["test"] for found in map(_candidates, numbered)):
        return []
    return sorted(numbered, key=lambda path: int(path.name))


def _candidates(folder: Path) -> dict[Role, list[Path]]:
    found: dict[Role, list[Path]] = {role: [] for role in _SPLIT_WORDS}
    for path in sorted(folder.iterdir()):
        texts = (file for file in visible(path) if file.suffix == ".txt")
        if (role := _role(path)) and (any(texts) if path.is_dir() else path.stat().st_size):
            found[role].append(path)
    return found


def _role(path: Path) -> Role | None:
    if path.name.startswith("."):
        return None
    words = set(_words(path.name))
    found = [role for role, known in _SPLIT_WORDS.items() if words & known]
    if "gold" in found:
        return "gold"
    return None if {"devel", "train"} <= set(found) else next(iter(found), None)


def _words(name: str) -> list[str]:
    """The words of a file's name in small letters: between signs and digits, and where capitals begin or end a word."""
    found = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", Path(re.sub(r"(?i)\.gz$", "", name)).stem)
    # NCBItrainset: the word after an acronym is its small letters alone.
    tails = [word.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for word in found]
    return [word.lower().removesuffix("set") for word in (*found, *tails)]
