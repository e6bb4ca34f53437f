"""The ONNX files of a model's folder: which there are, and what each was exported from."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from transformers import PretrainedConfig

from compactbio.files import file_digest, read_json, value_digest
from compactbio.modeling.loading import Source

RECORD = "export.json"
# By runtime; the first that is there is taken. `export` writes the first of each, optimum and transformers.js the rest.
FILES = {
    "onnx-fp32": ("model.onnx", "model_optimized.onnx", "onnx/model.onnx", "onnx/model_optimized.onnx"),
    "onnx-int8": ("model_int8.onnx", "model_quantized.onnx", "onnx/model_int8.onnx", "onnx/model_quantized.onnx"),
}
# Where an ONNX file is from: exported from the weights and configuration beside it (or with no weights beside it), from
# others, from what a damaged record does not name, made elsewhere, or put under the name of an export with no weights
# beside it that would show what it is.
Origin = Literal["own", "stale", "unclear", "elsewhere", "replaced"]
# What `tasks.settings` keeps in a configuration: how texts and outputs are read.
_NOT_COMPUTED = ("relation_classes", "joined_signs", "tag_scheme", "independent_types")
# Operations that leave the values of their first input as they are.
_KEEPING = ("Cast", "Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


def find(source: Source, name: str) -> Path | None:
    """The ONNX file that a runtime reads, None where there is none."""
    return next((source.folder / file for file in FILES[name] if (source.folder / file).is_file()), None)


def others(source: Source) -> list[str]:
    """The ONNX files of a folder that no runtime reads, by their paths in it."""
    found = {path.relative_to(source.folder).as_posix() for path in source.folder.rglob("*.onnx")}
    return sorted(found.difference(*FILES.values()))


def exports(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The folder's record of each exported file; None for a damaged record, {} where there is none."""
    try:
        found = read_json(folder / RECORD)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    made = found.get("exports") if isinstance(found, dict) else None
    if not isinstance(made, dict) or not all(isinstance(record, dict) for record in made.values()):
        return None
    # Older records name the weights once for all exports of the folder.
    return {file: {"model": found.get("model"), **record} for file, record in made.items()}


def origin(source: Source, path: Path) -> Origin:
    """Where the ONNX file `path` of a source is from."""
    made, beside = exports(source.folder), bool(source.weights)
    if made is None:
        return "unclear" if beside else "elsewhere"
    record = made.get(path.relative_to(source.folder).as_posix())
    if record is None:
        # An export under another name would be taken for one of another precision.
        renamed = not beside and onnx_digest(path) in {other.get("sha256") for other in made.values()}
        return "replaced" if renamed else "elsewhere"
    if "sha256" in record and record["sha256"] != onnx_digest(path):
        return "elsewhere" if beside else "replaced"
    if not beside:
        return "own"
    same = record["weights"] == weights_digest(source) if "weights" in record else record["model"] == source.digest
    # Records of before say nothing of the configuration beside the weights.
    return "own" if same and record.get("config") in (None, config_digest(source.config)) else "stale"


def weights_digest(source: Source) -> str:
    """A fingerprint of a source's weights, whatever its configuration says."""
    return value_digest([onnx_digest(file) for file in source.weights])


def config_digest(config: PretrainedConfig) -> str:
    """A fingerprint of what a configuration says of the computation, whatever its labels are named."""
    # Without defaults, as later versions of transformers add some.
    default, other = type(config)().to_dict(), {*PretrainedConfig().to_dict(), *_NOT_COMPUTED}
    said = {k: value for k, value in config.to_dict().items() if k not in other and default.get(k) != value}
    return value_digest([config.model_type, said])


def external(path: Path) -> list[str]:
    """The files beside an ONNX file that hold weights of it; none for one that cannot be read."""
    try:
        import onnx_ir
    except ImportError:
        return sorted(file.name for file in path.parent.glob(f"{path.name}*") if file != path)
    try:
        graphs = onnx_ir.load(str(path)).graphs()
    except Exception:
        # What is wrong with it is reported where it is loaded.
        return []
    values = (value.const_value for graph in graphs for value in graph.initializers.values())
    return sorted({str(value.location) for value in values if isinstance(value, onnx_ir.ExternalTensor)})


def ends_in_probabilities(path: Path, output: str) -> bool:
    """Whether the last operation of an ONNX file on an output is a softmax or a sigmoid; True without onnx_ir."""
    try:
        import onnx_ir
    except ImportError:
        return True  # what is asked about looks like probabilities
    [value] = [value for value in onnx_ir.load(str(path)).graph.outputs if value.name == output]
    while (node := value.producer()) and node.op_type in _KEEPING:
        value = node.inputs[0]
    return bool(node and re.search("softmax|sigmoid", node.op_type, re.IGNORECASE))


def onnx_digest(path: Path) -> str:
    """The SHA-256 of a file, read again only where the file has changed."""
    status = path.stat()
    return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)
