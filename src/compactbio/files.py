"""Files and folders that appear whole or not at all, their digests, and locks on outputs."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import IOBase
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import yaml
from filelock import FileLock, Timeout

from compactbio.errors import UserError, check_named, without_content

_PARTIAL = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)-[0-9]+\.partial", re.DOTALL)
_NAMESPACE = Path("/proc/self/ns/pid")  # containers may share a host name, and have process ids of their own
_NUMBERS = count()


def several(names: str | Path | Iterable[str | Path], what: str) -> list[str | Path]:
    """One name or path, or several of any iterable, as a list. Raises UserError, naming the argument, for all else."""
    if isinstance(names, str | os.PathLike):
        return [names]
    # A table would give its columns, an open file its lines.
    others = isinstance(names, Mapping | bytes | IOBase) or getattr(names, "ndim", 1) != 1
    if others or not isinstance(names, Iterable):
        raise UserError(f"{what}: {without_content(names)} is neither a name or path nor a list of them.")
    return list(names)


def output(out: str | Path) -> Path:
    """A folder or file to write. Raises UserError as `check_named` does."""
    return Path(check_named(out, "out", setting="out"))


def check_has_name(out: Path) -> None:
    """Raise UserError for a path that does not end in a name, as ".", ".." and "/": nothing can be put beside it."""
    if out.name in ("", ".."):
        raise UserError(f"{out} has no name of its own: name a new file or folder.", setting="out")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it is renamed to `path`, on failure removed."""
    partial = _partial(path)
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; on success it replaces `path`, on failure it is removed.

    A process killed while it replaces one leaves a complete `.NAME.old` and no `path`; `recover` puts it back.
    """
    partial = _partial(path)
    recover(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def filled_at_once(path: Path) -> Iterator[Path]:
    """Give a new folder to fill; on success its files are moved into the folder `path`, on failure it is removed."""
    partial = _partial(path.resolve())
    partial.mkdir(parents=True)
    try:
        yield partial
        path.mkdir(parents=True, exist_ok=True)
        for written in sorted(partial.iterdir()):
            _sync(written)
            written.replace(path / written.name)
        _sync(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, path: Path) -> None:
    """Rename a complete folder to `path`, in place of what had that name; its content is synced to disk before."""
    old = _old(path)
    for written in (*partial.rglob("*"), partial):
        _sync(written)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: Path) -> None:
    """Finish what a process killed within `atomic_folder` left: the old folder comes back where there is no new one."""
    old = _old(path)
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def clean(path: Path) -> None:
    """Remove what processes of this machine that have ended were writing as `path` or, of a folder, in it."""
    listed = path.parent.iterdir() if os.access(path.parent, os.R_OK) else ()
    beside = (entry for entry in listed if entry.name.startswith(f".{path.name}."))
    for found in [*beside, *path.rglob(".*.partial")]:
        match = _PARTIAL.fullmatch(found.name)
        if match and match[1] == _machine() and not _lives(int(match[2])):
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{next(_NUMBERS)}.partial")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _machine() -> str:
    name = f"{platform.node()} {_NAMESPACE.readlink() if _NAMESPACE.is_symlink() else ''}"
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on disk before this returns."""
    if not (path.is_file() or path.is_dir()):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot sync folders.
        if path.is_file() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value to `path`, indented, whole or not at all; bytes of a path that are not UTF-8 are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for one that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Read a JSON value. Raises OSError or ValueError."""
    return parse_json(path.read_text(encoding="utf-8"))


def read_json_or_none(path: Path) -> Any:
    """Read a JSON value, None where the file is missing or damaged."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


class _Loader(yaml.SafeLoader):
    """Reads 5e-4 as the number that it is in YAML 1.2 (1.1 needs 5.0e-4), and refuses a key that a mapping names twice,
    of which YAML would silently keep the last."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set[Any]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value not in ("<<", "="):  # which merge, and have no value
                names = {name := self.construct_object(key), str(name)}
                if seen & names:
                    raise UserError(f"line {key.start_mark.line + 1} names {str(name)!r} a second time; keep one")
                seen |= names
        return node


# YAML 1.1's own pattern asks for a point, and for a sign of the exponent.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError, and UserError (a phrase) for a key that is there twice."""
    try:
        return yaml.load(text, _Loader)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # of a date that no calendar has, and of a thousand brackets
        raise yaml.YAMLError(str(error)) from None


def read_yaml(path: Path, kind: str) -> dict[str, Any]:
    """Read a YAML file that maps keys to values; `kind` names the file in errors. Raises UserError."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{kind} {path} cannot be read: {error.strerror}; check the path.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{kind} {path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    except UserError as error:
        raise UserError(f"{kind} {path}: {error}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{kind} {path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{kind} {path} is not a mapping of keys to values.")
    return {str(key): value for key, value in values.items()}


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's bytes, read in blocks. Raises OSError as `open` does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def value_digest(value: Any) -> str:
    """The SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def refuse_foreign(out: Path, kind: str, *marks: str) -> None:
    """Raise UserError where `out` is neither free, nor empty, nor a folder of ours: a `kind` with any of `marks`."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: choose another output folder.", setting="out")
    if any(out.iterdir()) and not any((out / mark).exists() for mark in marks):
        raise UserError(
            f"{out} is not empty and holds no {kind} of compactbio: choose another output folder.", setting="out"
        )


def refuse_inside(out: Path, inputs: Iterable[Path], setting: str = "out") -> None:
    """Raise UserError where an output is in a folder that is read, and where it is or holds something that is read."""
    place = out.resolve()
    for path in inputs:
        if path.is_dir() and place.is_relative_to(path.resolve()):
            raise UserError(f"{out} is in {path}, which is read as data: choose a place outside it.", setting=setting)
        if path.resolve().is_relative_to(place):
            raise UserError(
                f"{path} is read as data, and {out} is the same place or holds it: choose another.", setting=setting
            )


_MOMENT = 0.2  # seconds; a lock that another process is just removing is free by then


@contextmanager
def locked(path: Path, *, seconds: float = _MOMENT) -> Iterator[None]:
    """Hold the lock of the file or folder `path`, which need not exist; remove what killed processes left of it.

    The lock is `.NAME.lock` beside `path`, or a temporary file of the system where nothing may be written there; it is
    removed afterwards, and free once its process has ended, however it ended. Raises UserError where another run holds
    it for longer than `seconds` and for "/", and OSError where the folder of `path` cannot be made.
    """
    place = path.resolve()
    check_has_name(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_file(place))
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise UserError(f"{path}: another run is writing it; wait until it ends, or name another place.") from None
    try:
        clean(place)
        yield
    finally:
        # Before the release: a process that has opened it sees that its name is gone, and opens another.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lock_file(place: Path) -> Path:
    # Not with the lock's own file, which would be taken for another's where the system cannot lock files.
    probe = _partial(place)
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
        return Path(gettempdir()) / f"compactbio-{os.getuid()}-{name}.lock"
    return place.with_name(f".{place.name}.lock")
