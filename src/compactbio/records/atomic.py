"""Files and folders that appear whole or not at all, whatever moment a process dies at."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it takes the name `path`, on failure it is removed."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; on success it takes the place of `path`, on failure it is removed.

    Where `path` exists it is moved away first, so a death between the two renames leaves no `path`
    but a whole `.NAME.old`; `recover` puts it back.
    """
    partial = _beside(path, "partial")
    recover(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, path: Path) -> None:
    """Give a folder that is complete the name `path`, in place of what had it; on disk before it has the name."""
    old = _beside(path, "old")
    for written in partial.rglob("*"):
        if written.is_file():
            with written.open("rb") as handle:
                os.fsync(handle.fileno())
    if path.exists():
        path.rename(old)
    partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: Path) -> None:
    """Finish what a death within `folder` left: the old folder comes back where no new one took its place."""
    old = _beside(path, "old")
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text under `path`, whole or not at all."""
    with file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value under `path`, indented, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON value. Raises OSError or json.JSONDecodeError."""
    return json.loads(path.read_text(encoding="utf-8"))
