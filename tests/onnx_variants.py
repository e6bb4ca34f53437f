"""Models with heads and random weights, and ONNX files of them as other exporters write them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from compactbio.modeling.packing import NO_LABEL, Row
from conftest import VOCABULARY, bert, distilbert, mobilebert, randomize

FAMILIES = {"bert": bert, "distilbert": distilbert, "mobilebert": mobilebert}
CLASSES = {
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}
LABELS = {"ner": ["O", "B-Drug", "I-Drug"], "relation": ["0", "1"], "qa": []}
LENGTHS = [9, 4, 17, 4, 30, 1]


def headed(folder: Path, tokenizer_folder: Path, task: str, family: str, seed: int = 0) -> Path:
    """A random model of one layer with the head of a task, every parameter wide, the row of [PAD] too."""
    config = AutoConfig.for_model(**FAMILIES[family](layers=1).config.to_dict())
    if LABELS[task]:
        config.id2label = dict(enumerate(LABELS[task]))
        config.label2id = {label: i for i, label in enumerate(LABELS[task])}
    randomize(CLASSES[task].from_config(config), seed).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


def rows_of(task: str, lengths: list[int] = LENGTHS, seed: int = 0) -> list[Row]:
    """Random rows of some lengths; those of questions have two segments."""
    draw = np.random.default_rng(seed)
    found = []
    for length in lengths:
        segments = (np.arange(length) >= length // 3).astype(np.int64) if task == "qa" else None
        found.append(Row(draw.integers(5, len(VOCABULARY), length), np.full(length, NO_LABEL), segments))
    return found


def plain(folder: Path, task: str, rows: list[Row]) -> list[np.ndarray]:
    """What plain transformers computes for each row on its own, without any padding."""
    model: PreTrainedModel = CLASSES[task].from_pretrained(folder).eval()
    takes_types = getattr(model.config, "type_vocab_size", 0) > 1
    found = []
    for row in rows:
        inputs = {"input_ids": torch.from_numpy(row.input_ids)[None]}
        if row.segments is not None and takes_types:
            inputs["token_type_ids"] = torch.from_numpy(row.segments)[None]
        with torch.no_grad():
            out = model(**inputs)
        logits = torch.stack([out.start_logits, out.end_logits], -1) if task == "qa" else out.logits
        found.append(logits[0].numpy())
    return found


def edited(source: Path, out: Path, *edits: Callable[[onnx.ModelProto], None]) -> Path:
    """An ONNX file with changes."""
    model = onnx.load(source)
    for edit in edits:
        edit(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out)
    return out


def renamed(**names: str) -> Callable[[onnx.ModelProto], None]:
    """Other names for inputs and outputs."""

    def edit(model: onnx.ModelProto) -> None:
        graph = model.graph
        for value in (*graph.input, *graph.output):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            for fields in (node.input, node.output):
                fields[:] = [names.get(name, name) for name in fields]

    return edit


def fed_as(kind: int, *inputs: str) -> Callable[[onnx.ModelProto], None]:
    """Inputs of another type, as TensorFlow's exporters and others have them."""

    def edit(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            if value.name in inputs:
                value.type.tensor_type.elem_type = kind
                for node in model.graph.node:
                    node.input[:] = [f"{value.name}_wide" if name == value.name else name for name in node.input]
                cast = helper.make_node("Cast", [value.name], [f"{value.name}_wide"], to=TensorProto.INT64)
                model.graph.node.insert(0, cast)

    return edit


def given_as(kind: int, output: str) -> Callable[[onnx.ModelProto], None]:
    """An output of another type."""

    def edit(model: onnx.ModelProto) -> None:
        for value in model.graph.output:
            if value.name == output:
                value.type.tensor_type.elem_type = kind
        for node in model.graph.node:
            node.output[:] = [f"{output}_wide" if name == output else name for name in node.output]
        model.graph.node.append(helper.make_node("Cast", [f"{output}_wide"], [output], to=kind))

    return edit


def fixed(rows: int | None = None, length: int | None = None) -> Callable[[onnx.ModelProto], None]:
    """Inputs of a fixed number of rows, or of tokens."""

    def edit(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            for dimension, size in zip(value.type.tensor_type.shape.dim, (rows, length), strict=False):
                if size is not None:
                    dimension.dim_value = size

    return edit


def with_positions(model: onnx.ModelProto) -> None:
    """Positions as an input, as the export of a model that was called with them has it."""
    [table] = [t.name for t in model.graph.initializer if t.name.endswith("position_embeddings.weight")]
    [node] = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] == table]
    node.input[1] = "position_ids"
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "length"]))


def with_extra_output(model: onnx.ModelProto) -> None:
    """A second output before the logits: the embeddings' sum, of the logits' rank."""
    [table] = [t.name for t in model.graph.initializer if t.name.endswith("word_embeddings.weight")]
    [node] = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] == table]
    model.graph.output.insert(0, helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
