"""A PyTorch model as an ONNX program, and int8 models made of it."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.families import depth, has_segments, layer_path, longest
from compactbio.modeling.onnx import OnnxRuntime
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import ONNX_FILES, Runtime

_EMBEDDINGS = "embeddings"


@contextmanager
def _silently() -> Iterator[None]:
    """Within it the exporters' messages, of which the user can fix nothing, are dropped."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def program_of(model: PreTrainedModel, task: str) -> Any:
    """The model as an `onnx_ir.Model`, for batches and rows of any size.

    Raises UserError where the exporter is not installed.
    """
    try:
        from transformers.exporters import OnnxConfig, OnnxExporter

        # Odd and below the positions, so that the exporter takes neither size for a constant of the model.
        length = min(17, longest(model.config) // 2 + 1)
        ids = torch.ones((3, length), dtype=torch.long)
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if task == "qa" and has_segments(model):
            inputs["token_type_ids"] = (torch.arange(length) > length // 2).long().expand(3, length).clone()
        with _silently():
            return OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True)).program
    except ImportError as error:
        raise UserError(f"The exporter is not installed: pip install 'compactbio[onnx]' ({error}).") from None


def save_program(program: Any, path: Path) -> None:
    """Write a program with its weights to one file."""
    import onnx_ir

    onnx_ir.save(program, str(path))


@dataclass(frozen=True)
class Quantiser:
    """Makes int8 models of a program of `model`, in `folder`."""

    program: Any
    model: PreTrainedModel
    task: str
    folder: Path

    def groups(self) -> list[str]:
        """What can be left in fp32: the embeddings, each layer."""
        layers = range(depth(self.model)) if layer_path(self.model) else ()
        return [_EMBEDDINGS, *(f"layer {i}" for i in layers)]

    def make(self, *, per_channel: bool, only: str | None = None, without: Sequence[str] = ()) -> OnnxRuntime:
        """An int8 model: of all groups, of `only` one, or `without` some; with a scale per weight, or per channel."""
        from transformers.exporters import ExportFormat, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

        nodes = self._nodes()
        config = OnnxRuntimeDynamicConfig(
            per_channel=per_channel,
            nodes_to_quantize=None if only is None else [name for name, group in nodes.items() if group == only],
            nodes_to_exclude=[name for name, group in nodes.items() if group in without] or None,
        )
        with _silently():
            quantised = OnnxRuntimeQuantizer(config).quantize(self.program, {}, ExportFormat.ONNX)
        path = self.folder / ONNX_FILES["onnx-int8"]
        save_program(quantised, path)
        return OnnxRuntime(path, self.task, "onnx-int8", self.model.config)

    def by_sensitivity(self, fp32: Runtime, rows: Sequence[Row]) -> list[str]:
        """The groups by how much quantising each alone changes the logits of some rows, the most first."""
        wanted = fp32.logits(rows)
        errors = {}
        for group in self.groups():
            found = self.make(per_channel=True, only=group).logits(rows)
            errors[group] = sum(float(((a - b) ** 2).sum()) for a, b in zip(wanted, found, strict=True))
        return sorted(errors, key=lambda group: -errors[group])

    def _nodes(self) -> dict[str, str]:
        """The group of every node that can be quantised, by the path of its module."""
        path = layer_path(self.model)
        found = {}
        for node in self.program.graph:
            if node.op_type not in ("MatMul", "Gemm", "Gather"):
                continue
            scope = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
            _, inside, rest = scope.rpartition(f"{path}.") if path else ("", "", "")
            number = rest.split(".")[0].split("'")[0]
            if inside and number.isdigit():
                found[node.name] = f"layer {number}"
            elif "embed" in scope:
                found[node.name] = _EMBEDDINGS
        return found
