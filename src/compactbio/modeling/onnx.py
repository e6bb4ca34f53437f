"""An ONNX file as a runtime, whatever exported it."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from compactbio.errors import UserError
from compactbio.modeling.families import first_position, longest
from compactbio.modeling.onnx_files import ends_in_probabilities, external
from compactbio.modeling.packing import NO_LABEL, Row, check_finite

# The names of a model's inputs in exports of PyTorch and TensorFlow, without the number that some append.
_ROLES = {
    **dict.fromkeys(("input_ids", "input", "ids", "tokens", "token_ids", "input_word_ids"), "ids"),
    **dict.fromkeys(("attention_mask", "input_mask", "mask", "attn_mask"), "mask"),
    **dict.fromkeys(("token_type_ids", "segment_ids", "segments", "type_ids", "input_type_ids"), "types"),
    **dict.fromkeys(("position_ids", "positions"), "positions"),
}
_TYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}
# The largest number up to which a type holds all whole ones, where models may need more.
_LARGEST = {np.int8: 127, np.uint8: 255, np.float16: 2048, np.bool_: 1}
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_LOGITS = {"ner": "logits", "relation": "logits", "qa": "start_logits and end_logits"}
# The names of the outputs of starts and ends in exports of transformers, older and newer.
_PAIRS = ((r"(.*_)?start(_logits|s)?", r"(.*_)?end(_logits|s)?"), ("output_0", "output_1"))
# Tokens per batch: more do not fit the processor's caches.
_TOKENS = 1024
_ROUNDING = 1e-3  # of probabilities, in half precision too
_SHORTEST = 8  # tokens that a row must be able to have
_LONG = 512  # tokens of the longest row that a file is tried on
# The largest change of a logit, as a share of the largest logit, by other rows in the batch and by padding. In fp32 it
# is rounding; int8 takes the range of activations from the whole batch.
_BY_ROWS = {"onnx-fp32": 0.05, "onnx-int8": 1.0}
_BY_PADDING = {"onnx-fp32": 1e-3, "onnx-int8": 0.25}


@dataclass(frozen=True)
class _Input:
    """An input, and its fixed numbers of rows and tokens, None for any number."""

    role: str  # a value of _ROLES
    name: str
    type: type[np.generic]
    rows: int | None
    tokens: int | None


class OnnxRuntime:
    """An exported model on batches of rows of similar length, padded where its mask hides padding.

    `longest` is the number of tokens of its rows where that is fixed, else None.
    """

    def __init__(self, path: Path, task: str, name: str, config: PretrainedConfig, threads: int | None = None) -> None:
        """Load the file of a model of `config`, fine-tuned for `task`, as the runtime `name`.

        `threads` are as many as the cores by default. Raises UserError for a file that cannot be read, or whose logits
        would be wrong.
        """
        self.name = name
        self._path, self._task, self._config = path, task, config
        self._classes = 2 if task == "qa" else int(config.num_labels)
        self._session = _session(path, threads)
        self._inputs = self._find_inputs()
        self._outputs = self._find_outputs()
        self._rows = self._fixed("rows")
        self.longest = self._fixed("tokens")
        self._pads = self._check_runs()

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See Runtime."""
        found: dict[int, NDArray[np.float32]] = {}
        for places in batches([len(row) for row in rows], _TOKENS, self._rows, padded=self._pads):
            found.update(zip(places, self._run([rows[place] for place in places]), strict=True))
        for logits in found.values():
            check_finite(logits, str(self._path))
        return [found[place] for place in range(len(rows))]

    def _run(self, batch: Sequence[Row], padding: int | None = None) -> list[NDArray[np.float32]]:
        values = [value.astype(np.float32) for value in self._session.run(self._outputs, self._feed(batch, padding))]
        # (rows, longest, 2) for QA, (rows, longest, labels) for NER, (rows, classes) for relations
        joined = np.stack(values, axis=-1) if len(values) > 1 else values[0]
        # A fixed number of rows may be more than there are.
        pairs = zip(batch, joined, strict=False)
        return [logits if self._task == "relation" else logits[: len(row)] for row, logits in pairs]

    def _feed(self, batch: Sequence[Row], padding: int | None) -> dict[str, NDArray[np.generic]]:
        rows = [*batch, *[batch[-1]] * ((self._rows or 0) - len(batch))]
        shape = (len(rows), self.longest or max(map(len, rows)))
        values = {
            "ids": np.full(shape, (self._config.pad_token_id or 0) if padding is None else padding),
            "mask": np.zeros(shape, dtype=np.int64),
            "types": np.zeros(shape, dtype=np.int64),
            "positions": np.broadcast_to(np.arange(shape[1]) + first_position(self._config), shape),
        }
        for i, row in enumerate(rows):
            values["ids"][i, : len(row)] = row.input_ids
            values["mask"][i, : len(row)] = 1
            if row.segments is not None:
                values["types"][i, : len(row)] = row.segments
        return {given.name: values[given.role].astype(given.type) for given in self._inputs}

    def _find_inputs(self) -> list[_Input]:
        given, found = self._session.get_inputs(), []
        positions = first_position(self._config) + longest(self._config)
        counts = {"ids": int(self._config.vocab_size), "positions": positions}
        for value in given:
            role = _ROLES.get(re.sub(r"[:.]\d+$", "", value.name), "ids" if len(given) == 1 else "")
            if not role:
                raise UserError(
                    f"{self._path}: it needs an input {value.name!r}, which is unknown here; export the model with "
                    "input_ids, attention_mask and token_type_ids alone."
                )
            shape = list(value.shape or [])
            if value.type not in _TYPES or len(shape) != 2:
                raise UserError(
                    f"{self._path}: its input {value.name!r} is a {value.type} of shape {shape}, not of numbers of "
                    "shape (rows, tokens); export the model again."
                )
            if counts.get(role, 2) - 1 > _LARGEST.get(_TYPES[value.type], math.inf):
                raise UserError(
                    f"{self._path}: its input {value.name!r} is a {value.type}, which cannot hold all numbers below "
                    f"{counts[role]:,}; export the model with int64 as its type."
                )
            rows, tokens = (size if isinstance(size, int) and size > 0 else None for size in shape)
            found.append(_Input(role, value.name, _TYPES[value.type], rows, tokens))
        roles = [value.role for value in found]
        if "ids" not in roles or len(set(roles)) < len(roles):
            raise UserError(
                f"{self._path}: its inputs cannot be recognised by their names ({_listed(given)}); export the model "
                "with input_ids, attention_mask and token_type_ids as names."
            )
        segments = int(getattr(self._config, "type_vocab_size", 0) or 0)
        if self._task == "qa" and segments > 1 and "types" not in roles:
            raise UserError(
                f"{self._path}: it has no input token_type_ids, which tells the model the question from the passage; "
                "export the model again."
            )
        return found

    def _fixed(self, kind: str) -> int | None:
        """The number of rows, or of tokens, that all batches have."""
        sizes = {size for value in self._inputs if (size := getattr(value, kind)) is not None}
        if len(sizes) > 1:
            raise UserError(f"{self._path}: its inputs have different numbers of {kind}; export the model again.")
        return sizes.pop() if sizes else None

    def _find_outputs(self) -> list[str]:
        """The names of the outputs to read: one, or for QA one of starts and one of ends."""
        given = [value for value in self._session.get_outputs() if value.type in _FLOATS]
        for pair in _PAIRS if self._task == "qa" else ():
            named = [[value.name for value in given if re.fullmatch(name, _bare(value.name))] for name in pair]
            if all(len(names) == 1 for names in named):
                return [names[0] for names in named]
        exact = [value for value in given if _bare(value.name) == "logits"]
        fitting = [value for value in given if self._fits(list(value.shape or []))]
        for values in (exact, fitting, given):
            if len(values) == 1:
                return [values[0].name]
        raise UserError(
            f"{self._path}: it is unclear which output holds the logits, there are "
            f"{_listed(self._session.get_outputs())}; export the model with {_LOGITS[self._task]} as output."
        )

    def _fits(self, shape: list[Any]) -> bool:
        rank = 2 if self._task == "relation" else 3
        return len(shape) == rank and (not isinstance(shape[-1], int) or shape[-1] == self._classes)

    def _check_runs(self) -> bool:
        """Run rows alone and together, fix how many a batch may have, and return whether they may be padded."""
        most = min(self.longest or _LONG, longest(self._config))
        if most < _SHORTEST:
            raise UserError(f"{self._path}: its rows have {most} tokens, which is too few; export it for longer ones.")
        draw, vocabulary = np.random.default_rng(0), int(self._config.vocab_size)
        some = [Row(draw.integers(0, vocabulary, n), np.full(n, NO_LABEL)) for n in (3, _SHORTEST, _SHORTEST, most)]
        alone = [self._alone(row) for row in some]
        if self._are_probabilities(alone):
            raise UserError(f"{self._path}: its output holds probabilities, not logits; export it without a softmax.")
        # MobileBERT's embedding of a token (trigram_input) includes its neighbours, padding too.
        has_mask = any(value.role == "mask" for value in self._inputs)
        masks = has_mask and not getattr(self._config, "trigram_input", False)
        if self.longest is not None:
            another = ((self._config.pad_token_id or 0) + 1) % vocabulary
            if masks and self._change(some[:1], alone[:1], padding=another) <= _BY_PADDING[self.name]:
                return True
            raise UserError(
                f"{self._path}: its rows always have {self.longest} tokens, and padding changes what it computes; "
                "export it for rows of any length."
            )
        if not self._change(some[1:3], alone[1:3]) <= _BY_ROWS[self.name]:
            self._rows = self._rows or 1
        return masks and self._change(some[:2], alone[:2]) <= _BY_PADDING[self.name]

    def _are_probabilities(self, outputs: Sequence[NDArray[np.float32]]) -> bool:
        """Whether what the file gives for some rows went through a softmax or a sigmoid."""
        if any((values < 0).any() or (values > 1 + _ROUNDING).any() for values in outputs):
            return False
        axis = 0 if self._task == "qa" else -1
        # Logits of an untrained model may all happen to lie between 0 and 1: their sums, or the file, decide.
        summed = all(np.allclose(values.sum(axis), 1, atol=_ROUNDING) for values in outputs)
        return summed or ends_in_probabilities(self._path, self._outputs[0])

    def _alone(self, row: Row) -> NDArray[np.float32]:
        """The logits of one row. Raises UserError where they are not those of the model."""
        try:
            [found] = self._run([row])
        except Exception as error:
            raise UserError(
                f"{self._path}: it fails on a row of {len(row)} tokens ({_reason(error)}); export it for rows of any "
                "length."
            ) from None
        wanted = (self._classes,) if self._task == "relation" else (len(row), self._classes)
        if found.shape != wanted:
            raise UserError(
                f"{self._path}: for a row of {len(row)} tokens its logits have the shape {found.shape}, by config.json "
                f"it is {wanted}; name a folder whose configuration and model belong together."
            )
        if not np.isfinite(found).all():
            raise UserError(f"{self._path}: it computes NaN or infinite logits; export the model again, in fp32.")
        return found

    def _change(self, rows: Sequence[Row], alone: Sequence[NDArray[np.float32]], padding: int | None = None) -> float:
        """How much running rows together, or padding with another token, changes their logits; infinite on failure."""
        try:
            found = self._run(rows, padding)
            worst = max(float(np.abs(a - b).max()) for a, b in zip(found, alone, strict=True))
        except Exception:
            return float("inf")
        return worst / (max(float(np.abs(logits).max()) for logits in alone) or 1.0)


def batches(
    lengths: Sequence[int], tokens: int, most: int | None = None, *, padded: bool = True
) -> Iterator[list[int]]:
    """The indices of rows in batches of similar length, shortest first, or of one length where they are not `padded`.

    A batch has at most `tokens` tokens with padding and `most` rows, and at least one row.
    """
    waiting: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        full = lengths[place] * (len(waiting) + 1) > tokens or len(waiting) == most
        if waiting and (full or not (padded or lengths[place] == lengths[waiting[-1]])):
            yield waiting
            waiting = []
        waiting.append(place)
    if waiting:
        yield waiting


def _bare(name: str) -> str:
    return re.sub(r":\d+$", "", name)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value.name} {value.shape}" for value in values)


def _reason(error: Exception) -> str:
    """ONNX Runtime's message, without the places in its source and on disk."""
    text = (str(error).strip() or type(error).__name__).partition("\n")[0].rpartition(" failed:")[2]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:200]


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
        found = error
    missing = [name for name in external(path) if not (path.parent / name).is_file()]
    if missing:
        raise UserError(f"{path}: its weights are in {missing[0]}, which is not beside it; download or copy that too.")
    if re.search(r"Opset \d+ is under development|IR version", str(found)):
        raise UserError(
            f"{path}: it is of a newer ONNX version than ONNX Runtime {onnxruntime.__version__} reads; update "
            "onnxruntime, or export the model with an older opset."
        )
    raise UserError(f"{path}: ONNX Runtime cannot read it ({_reason(found)}); export or download the model again.")
