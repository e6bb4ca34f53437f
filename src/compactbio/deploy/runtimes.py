"""What computes a fine-tuned model's logits: PyTorch in fp32 or bf16, ONNX Runtime in fp32 or int8, behind one face."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.records import hashes
from compactbio.tasks.rows import Row
from compactbio.training import hardware
from compactbio.training.adapters import TASKS
from compactbio.training.loading import Source, configured, load_for, quiet
from compactbio.training.predicting import predict

TORCH = ("torch-fp32", "torch-bf16")
ONNX_FILES = {"onnx-fp32": "model.onnx", "onnx-int8": "model_int8.onnx"}
NAMES = (*TORCH, *ONNX_FILES)
# Tokens a batch: more would only leave the processor's caches.
_TORCH_TOKENS, _ONNX_TOKENS = 2048, 1024


class Runtime(Protocol):
    """Computes logits; `name` is one of NAMES."""

    @property
    def name(self) -> str: ...

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """The logits of each row, in the rows' order: (length, labels), (classes,) or, for QA, (length, 2)."""
        ...


class TorchRuntime:
    """A PyTorch model on packed rows; in bf16 its weights are rounded too."""

    def __init__(self, model: PreTrainedModel, task: str, name: str) -> None:
        self.name = name
        self._task = task
        self._model = model.to(torch.bfloat16 if name == "torch-bf16" else torch.float32).eval()
        self._tokens = hardware.tokens() if torch.cuda.is_available() else _TORCH_TOKENS

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See Runtime."""
        with torch.inference_mode():
            return predict(self._model, self._task, rows, tokens=self._tokens, bf16=False)


class OnnxRuntime:
    """An exported model on padded batches of rows of like length."""

    def __init__(self, path: Path, task: str, name: str, threads: int | None = None) -> None:
        self.name = name
        self._task = task
        self._session = _session(path, threads)
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._outputs = ["start_logits", "end_logits"] if task == "qa" else ["logits"]
        missing = set(self._outputs) - {one.name for one in self._session.get_outputs()}
        if missing:
            raise UserError(f"{path}: it has no output {missing.pop()!r}; export the model again for this task.")

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See Runtime."""
        found: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(rows)
        for places in by_length([len(row) for row in rows], _ONNX_TOKENS):
            batch = [rows[place] for place in places]
            values = self._session.run(self._outputs, self._feed(batch))
            # (rows, longest, 2) for QA, (rows, longest, labels) for NER, (rows, classes) for relations
            joined = np.stack(values, axis=-1) if self._task == "qa" else values[0]
            for place, row, own in zip(places, batch, joined, strict=True):
                found[place] = own if self._task == "relation" else own[: len(row)]
        return found

    def _feed(self, batch: Sequence[Row]) -> dict[str, NDArray[np.int64]]:
        shape = (len(batch), max(map(len, batch)))
        fed = {name: np.zeros(shape, dtype=np.int64) for name in self._inputs}
        for i, row in enumerate(batch):
            fed["input_ids"][i, : len(row)] = row.input_ids
            fed["attention_mask"][i, : len(row)] = 1
            if "token_type_ids" in fed and row.segments is not None:
                fed["token_type_ids"][i, : len(row)] = row.segments
        return fed


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The places of rows in batches of like length, shortest first, of at most `tokens` with padding, or of one row."""
    waiting: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if waiting and lengths[place] * (len(waiting) + 1) > tokens:
            yield waiting
            waiting = []
        waiting.append(place)
    if waiting:
        yield waiting


def find(name: str | Path) -> Source:
    """Find a model with weights that a runtime takes. Raises UserError where there is none."""
    source = configured(name, tuple(ONNX_FILES.values()))
    if not available(source):
        raise UserError(
            f"{name}: it has neither weights in safetensors nor an exported model ({', '.join(ONNX_FILES.values())}); "
            "name a folder that finetune or export wrote."
        )
    return source


def task_of(source: Source) -> str:
    """The task of a model's head. Raises UserError for a model without one."""
    architecture = (source.config.architectures or ["model without a head"])[0]
    for task, kind in TASKS.items():
        if architecture.endswith(kind.architecture):
            return task
    raise UserError(
        f"{source.name} is a {architecture}, which annotates nothing; fine-tune it first: "
        f"compactbio finetune DATA --model {source.name} --out DIR."
    )


def available(source: Source) -> list[str]:
    """The runtimes that a source has weights for and this machine is made for, in the order of NAMES."""
    found = []
    if list(source.folder.glob("*.safetensors")):
        found += ["torch-fp32"] + ["torch-bf16"] * (hardware.precision("auto") == "bf16")
    return found + [name for name, file in ONNX_FILES.items() if (source.folder / file).is_file()]


def digest(source: Source, name: str) -> str:
    """A fingerprint of what the runtime `name` reads of a source."""
    if name in ONNX_FILES and (source.folder / ONNX_FILES[name]).is_file():
        return hashes.of_value([hashes.of_file(source.folder / file) for file in (ONNX_FILES[name], "config.json")])
    return source.digest


def load(source: Source, name: str, threads: int | None = None) -> Runtime:
    """A source's model on the runtime `name`; `threads` are the processor's own number by default.

    Raises UserError where the source has no weights for it, or they cannot be read.
    """
    if name not in NAMES:
        raise UserError(f"{name!r} is no runtime: take auto or one of {', '.join(NAMES)}.")
    task = task_of(source)
    if name in ONNX_FILES:
        path = source.folder / ONNX_FILES[name]
        if not path.is_file():
            raise UserError(
                f"{source.name}: there is no {path.name} in it for {name}; make one with compactbio export, "
                f"or take one of {', '.join(available(source))}."
            )
        return OnnxRuntime(path, task, name, threads)
    if not list(source.folder.glob("*.safetensors")):
        raise UserError(f"{source.name}: it is an exported model; take one of {', '.join(available(source))}.")
    if threads is not None:
        torch.set_num_threads(threads)
    with quiet():
        model = load_for(source, TASKS[task].auto)
    return TorchRuntime(model.to("cuda" if torch.cuda.is_available() else "cpu"), task, name)


def _session(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("ONNX Runtime is not installed: pip install 'compactbio[onnx]'.") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"{path}: ONNX Runtime cannot read it ({reason}); export the model again.") from None
