"""From what a user names (files, folders, patterns) to the files to read, and the splits of a data set."""

import glob
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compactbio.errors import UserError, check_named
from compactbio.formats.drugprot import tables_of
from compactbio.formats.file_names import (
    KINDS,
    TEXT_KINDS,
    is_annotation,
    is_documentation,
    is_text,
    kind_of,
    standoff_texts,
    visible,
)
from compactbio.formats.recognise import recognise_texts
from compactbio.formats.streams import NotLinesError, SourceError

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
        texts = [path for path in self.files if kind_of(path) == "text"]
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
    for name in _named(inputs):
        files, others = _expand(name)
        found |= {path.resolve() for path in files}
        passed_over |= {path.resolve() for path in others}
    return Sources(_ordered(found), _ordered(passed_over - found))


def find_texts(inputs: Iterable[str | Path], format: str | None = None) -> Sources:
    """The files of texts that the inputs name, in their order, and folders of `.txt` files, which are read as one.

    The files of a folder are read one by one where they hold records (PubTator, XML, JSON lines), or where another
    format than BRAT is named. Raises UserError as `find_citations` does, and for a folder, or the files of a pattern,
    of several kinds.
    """
    found, passed_over = list[Path](), list[Path]()
    for name in _named(inputs):
        path = Path(name)
        files, others = _texts_in(path, format) if path.is_dir() else _texts_named(name)
        found += files
        passed_over += others
    return Sources(_once(found), _once(passed_over))


def _once(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Each file or folder once, under the first of its names."""
    known: dict[Path, Path] = {}
    for path in paths:
        known.setdefault(path.resolve(), path)
    return tuple(known.values())


def _named(inputs: Iterable[str | Path]) -> list[str]:
    names = [check_named(name, "The name of an input") for name in inputs]
    if not names:
        raise UserError("No input is named: name at least one file or folder.")
    return names


def _texts_in(folder: Path, format: str | None) -> tuple[Sequence[Path], Sequence[Path]]:
    """The files of a folder that are read, or the folder itself, and those that are passed over."""
    kinds, passed_over = defaultdict[str, list[Path]](list), list[Path]()
    found = list(visible(folder))
    annotated = format in (None, "brat") and any(map(is_annotation, found))
    standoff = set(standoff_texts(folder)) if annotated else set()
    for file in found:
        if file in standoff:
            kinds["brat"].append(file)
        elif kind_of(file) in (*KINDS.values(), *TEXT_KINDS) and not is_documentation(file):
            kinds[kind_of(file)].append(file)
        else:
            passed_over.append(file)
    if len(kinds) > 1:
        passed_over += kinds.pop("json", [])
    _check_one_kind(folder, kinds)
    if not kinds:
        known = ", ".join((*KINDS, ".pubtator", ".conll", ".json", ".txt with .ann, .a1 or .a2"))
        raise UserError(f"{folder}: no file of texts in it ({known}; also .gz).")
    [(kind, files)] = kinds.items()
    if kind == "brat" or (kind == "text" and all(map(is_text, files)) and _are_documents(folder, files, format)):
        return [folder], _ordered(passed_over)
    return _ordered(files), _ordered(passed_over)


def _are_documents(folder: Path, files: Sequence[Path], format: str | None) -> bool:
    """Whether each of a folder's `.txt` files is a text, and not a file of records; UserError where only some are."""
    if format is not None:
        return format == "brat"
    formats = defaultdict[str, list[Path]](list)
    for file in files:
        try:
            formats[recognise_texts(file)].append(file)
        except NotLinesError:
            formats["json"].append(file)
        except SourceError:
            pass  # it is set aside when its turn comes
    _check_one_kind(folder, formats)
    return set(formats) <= {"text"}


def _texts_named(name: str) -> tuple[Sequence[Path], Sequence[Path]]:
    found = find_citations([name])
    if not Path(name).exists():
        kinds = defaultdict[str, list[Path]](list)
        for file in found.files:
            kinds[kind_of(file)].append(file)
        _check_one_kind(Path(name), kinds)
    return found.files, found.passed_over


def _check_one_kind(place: Path, kinds: Mapping[str, Sequence[Path]]) -> None:
    if len(kinds) > 1:
        counts = (f"{len(files):,} {kind} ({_names(_ordered(files))})" for kind, files in sorted(kinds.items()))
        raise UserError(f"{place}: it holds files of several kinds: {', '.join(counts)}; name those that you mean.")


def _names(paths: Sequence[Path]) -> str:
    """The names of files, the first few of many."""
    more = len(paths) - _NAMED
    return ", ".join(path.name for path in paths[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _ordered(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The files by name, then by path."""
    return tuple(sorted(paths, key=lambda path: (path.name, str(path))))


def _expand(name: str) -> tuple[list[Path], list[Path]]:
    """The sources that a name stands for, and the files that were passed over."""
    path = Path(name)
    if path.is_dir():
        files, others = _divided(visible(path), KINDS.values())
        if not files:
            raise UserError(f"{path}: no file of citations in it (.xml, .jsonl, .ndjson, .parquet, .txt; also .gz).")
        return files, others
    if path.exists():
        check_regular(path)
        return ([], []) if _is_digest(path) else ([path], [])
    if not glob.has_magic(name):
        raise UserError(f"{name}: no such file or folder.")
    matched, passed_over = list[Path](), list[Path]()
    for match in map(Path, glob.glob(name, recursive=True)):  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files, others = _divided(visible(match), KINDS.values()) if match.is_dir() else _divided([match])
        matched += files
        passed_over += others
    if not matched:
        raise UserError(f"{name}: no file matches this pattern.")
    return matched, passed_over


def check_regular(path: Path) -> None:
    """Raise UserError for what is neither a file nor a folder, which cannot be read more than once."""
    if _is_special(path):
        raise UserError(
            f"{path}: it is a pipe or a device; save its content to a file (`annotate` also reads standard input: -)."
        )


def _is_special(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def _divided(paths: Iterable[Path], kinds: Collection[str] = ()) -> tuple[list[Path], list[Path]]:
    """The sources, of any kind or of these, and what is passed over: documentation, pipes and files of other kinds.

    `.md5` files are neither.
    """
    sources, others = list[Path](), list[Path]()
    for path in paths:
        if not _is_digest(path):
            passed_over = _is_special(path) or is_documentation(path) or (kinds and kind_of(path) not in kinds)
            (others if passed_over else sources).append(path)
    return sources, others


def _is_digest(path: Path) -> bool:
    return path.suffix.lower() == ".md5"


Role = Literal["train", "devel", "test", "gold"]
_SPLIT_WORDS: dict[Role, set[str]] = {
    "train": {"train", "training"},
    "devel": {"dev", "devel", "develop", "development", "val", "valid", "validation"},
    "test": {"test", "testing"},
    "gold": {"gold", "golden", "goldstandard"},
}


def splits(folder: Path) -> dict[str, Path]:
    """The files, or BRAT folders, of a data set by split: "train", "devel", "test", and "gold" for the answers to a
    test split without answers.

    They are found by the words in their names, case ignored: train, dev or valid, test, gold.
    A word may end in "set"; one that only contains such a word ("latest") does not count. Files of training and
    development together (`train_dev`), hidden ones and empty ones are passed over. Raises UserError for two files of
    one split, for a part of one (`train-00000-of-00002`), and where there is neither a train nor a test file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    found = _candidates(folder)
    for role, paths in found.items():
        if any(map(_is_part, paths)):
            raise UserError(
                f"{folder}: its {role} split is in parts ({_names(paths)}); join all of them into one file."
            )
        if len(paths) > 1:
            raise UserError(f"{folder}: {_names(paths)} are all {role} files; leave one of them in the folder.")
    if not found["train"] and not found["test"]:
        raise UserError(f"{folder}: {_elsewhere(folder)}.")
    return {role: paths[0] for role, paths in found.items() if paths}


def empty_splits(folder: Path) -> list[Path]:
    """The files of a folder that would be a split but are of zero bytes."""
    return [path for path in sorted(folder.iterdir()) if _role(path) and path.is_file() and not path.stat().st_size]


def _elsewhere(folder: Path) -> str:
    """Why a folder has no splits, and where they are."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    if empty := empty_splits(folder):
        return f"{_names(empty)} in it {'is' if len(empty) == 1 else 'are'} empty, and nothing else is train or test"
    if any(path.suffix == ".arrow" for path in visible(folder)):
        return "it holds Arrow files; write each split as Parquet (to_parquet of the datasets library) into one folder"
    if below := [path.name for path in inner if has_splits(path)]:
        return f"its splits are in folders within it; name one of them ({', '.join(below)})"
    if named := [path.name for path in inner if _role(path)]:
        return f"its splits are in folders of their own ({', '.join(named)}); put one file of each, named so, into one"
    return "none of its files has train or test in its name; name them so"


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
        if (role := _role(path)) and (_holds_documents(path) if path.is_dir() else path.stat().st_size):
            found[role].append(path)
    return found


def _holds_documents(folder: Path) -> bool:
    """Whether a folder is a split by itself: of BRAT's texts, or of DrugProt's tables."""
    return any(map(is_text, visible(folder))) or bool(tables_of(folder))


def _is_part(path: Path) -> bool:
    """Whether a file is one of several of a split, as the `datasets` library names them."""
    found = re.search(r"-\d+-of-(\d+)\.", path.name)
    return found is not None and int(found[1]) > 1


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
