"""The ONNX files of a model's folder: where exporters put them, and whether they are of the weights beside them."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from compactbio.records import atomic, hashes
from compactbio.training.loading import Source

RECORD = "export.json"
# By runtime; the first that is there is taken. `export` writes the first of each, optimum and transformers.js the rest.
FILES = {
    "onnx-fp32": ("model.onnx", "model_optimized.onnx", "onnx/model.onnx", "onnx/model_optimized.onnx"),
    "onnx-int8": ("model_int8.onnx", "model_quantized.onnx", "onnx/model_int8.onnx", "onnx/model_quantized.onnx"),
}
# Whose an ONNX file is: exported from the weights beside it (or with none beside it), from other ones, from ones that
# a damaged record does not say, or made elsewhere.
Origin = Literal["own", "stale", "unclear", "elsewhere"]


def patterns(names: tuple[str, ...] = tuple(FILES)) -> list[str]:
    """Patterns of the files that these runtimes read, weights in other files included."""
    return [f"{file}*" for name in names for file in FILES[name]]


def find(source: Source, name: str) -> Path | None:
    """The ONNX file that the runtime `name` reads."""
    return next((source.folder / file for file in FILES[name] if (source.folder / file).is_file()), None)


def others(source: Source) -> list[str]:
    """The ONNX files of a folder that no runtime reads, by their paths in it."""
    known = {file for files in FILES.values() for file in files}
    all_ = (path.relative_to(source.folder).as_posix() for path in sorted(source.folder.rglob("*.onnx")))
    return [file for file in all_ if file not in known]


def exports(folder: Path) -> dict[str, dict[str, Any]] | None:
    """What the folder's record says of each exported file; None for a damaged record, {} where there is none."""
    try:
        found = atomic.read_json(folder / RECORD)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    made = found.get("exports") if isinstance(found, dict) else None
    if not isinstance(made, dict) or not all(isinstance(one, dict) for one in made.values()):
        return None
    # Before each export named its weights, all of a folder were of the same.
    return {file: {"model": found.get("model"), **one} for file, one in made.items()}


def origin(source: Source, path: Path) -> Origin:
    """Whose the ONNX file `path` of a source is."""
    made, beside = exports(source.folder), bool(source.weights)
    if made is None:
        return "unclear" if beside else "elsewhere"
    one = made.get(path.relative_to(source.folder).as_posix())
    if one is None:
        return "elsewhere"
    if not beside:
        return "own"
    if "sha256" in one and one["sha256"] != file_digest(path):
        return "elsewhere"
    same = one["weights"] == weights_digest(source) if "weights" in one else one["model"] == source.digest
    return "own" if same else "stale"


def weights_digest(source: Source) -> str:
    """A fingerprint of a source's weights, whatever its configuration says."""
    return hashes.of_value([file_digest(file) for file in source.weights])


def digest(source: Source, path: Path) -> str:
    """A fingerprint of an ONNX file, of the files that hold its weights, and of the source's configuration."""
    files = [path, *(path.parent / name for name in external(path)), source.folder / "config.json"]
    return hashes.of_value([file_digest(file) for file in files if file.is_file()])


def external(path: Path) -> list[str]:
    """The files beside an ONNX file that hold weights of it; none for one that cannot be read."""
    try:
        import onnx_ir
    except ImportError:
        return sorted(file.name for file in path.parent.glob(f"{path.name}*") if file != path)
    try:
        graphs = onnx_ir.load(str(path)).graphs()
    except Exception:
        # What is wrong with it is said where it is loaded.
        return []
    values = (value.const_value for graph in graphs for value in graph.initializers.values())
    return sorted({str(value.location) for value in values if isinstance(value, onnx_ir.ExternalTensor)})


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, read again only where the file has changed."""
    status = path.stat()
    return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    return hashes.of_file(path)
