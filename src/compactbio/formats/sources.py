"""From what a user names (files, folders, patterns) to the files to read."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from compactbio.errors import UserError
from compactbio.formats.recognise import known_in_folder


def find(inputs: Iterable[str | Path]) -> tuple[Path, ...]:
    """The files that the inputs name, each once, ordered by file name and then path.

    A folder gives all files below it with a known extension, hidden ones left out; a file named outright is taken
    whatever its extension. `.md5` files are passed over, so that `folder/*` works on a mirror of the NLM's.
    Raises UserError for an input that does not exist, a pattern without a match and a folder without a source.
    """
    found = {path.resolve() for name in inputs for path in _expand(str(name))}
    return tuple(sorted(found, key=lambda path: (path.name, str(path))))


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        files = list(_below(path))
        if not files:
            raise UserError(f"{path}: no file of citations in it (.xml, .jsonl, .ndjson, .parquet, .txt; also .gz).")
        return files
    if path.exists():
        return _named([path])
    if not glob.has_magic(name):
        raise UserError(f"{name}: no such file or folder.")
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    files = _named(Path(match) for match in matches)
    if not files:
        raise UserError(f"{name}: no file of citations matches this pattern.")
    return files


def _named(paths: Iterable[Path]) -> list[Path]:
    return [file for path in paths for file in (_below(path) if path.is_dir() else [path]) if file.suffix != ".md5"]


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        folders = path.relative_to(folder).parts[:-1]
        if known_in_folder(path.name) and path.is_file() and not any(part.startswith(".") for part in folders):
            yield path
