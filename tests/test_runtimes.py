"""Whatever runtime computes a model's logits: they are those of each row alone, or it is said at load why not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import small_models
from compactbio import Annotator
from compactbio.deploy.export import export
from compactbio.deploy.onnx_programs import Quantiser, program_of, save_program
from compactbio.errors import UserError
from compactbio.modeling import loading, runtimes
from compactbio.modeling.loading import find as find_weights
from compactbio.modeling.onnx_files import config_digest
from compactbio.tasks import settings
from conftest import one_sentence
from onnx_variants import (
    CLASSES,
    FAMILIES,
    edited,
    fed_as,
    fixed,
    given_as,
    headed,
    plain,
    renamed,
    rows_of,
    with_extra_output,
    with_positions,
)
from task_data import ner_folder, qa_folder, relation_folder

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytestmark = pytest.mark.usefixtures("kept_programs")
TEXT = "the patients of aspirin and insulin daily ."


def equal(one: list[np.ndarray], other: list[np.ndarray], atol: float = 1e-4) -> None:
    assert len(one) == len(other)
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.shape == b.shape and a.dtype == np.float32, (i, a.shape, b.shape)
        assert np.allclose(a, b, atol=atol), (i, float(np.abs(a - b).max()))


@pytest.fixture(scope="module")
def models(tokenizer_folder, tmp_path_factory):
    """A BERT with the head of a task and an ONNX file of it, made when they are first asked for: (folder, file)."""
    made: dict[str, tuple[Path, Path]] = {}
    data = {
        "ner": ner_folder(tmp_path_factory.mktemp("data") / "ner", {"test": 20}, kind="Drug"),
        "relation": relation_folder(tmp_path_factory.mktemp("data") / "relation", {"train": 1, "test": 20}),
        "qa": qa_folder(tmp_path_factory.mktemp("data") / "qa", {"test": 20}),
    }

    def get(task: str) -> tuple[Path, Path]:
        if task not in made:
            folder = headed(tmp_path_factory.mktemp(task), tokenizer_folder, task, "bert", seed=1)
            out = folder.with_name(f"{folder.name}-onnx")
            found = export(str(folder), "onnx", out, data=data[task], split="test")
            assert found.original.score == found.exported.score and (found.original.score > 0 or task != "qa")
            made[task] = folder, out / "model.onnx"
        return made[task]

    return get


def only_onnx(folder: Path, out: Path) -> Path:
    """A copy of a model's folder without its weights."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    return out


def loaded(folder: Path, name: str = "onnx-fp32"):
    return runtimes.load(runtimes.find(str(folder)), name)


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_any_lengths_together_are_each_row_alone(task, family, tokenizer_folder, tmp_path):
    folder = headed(tmp_path / "model", tokenizer_folder, task, family, seed=1)
    rows = rows_of(task)
    equal(loaded(folder, "torch-fp32").logits(rows), plain(folder, task, rows))


@pytest.mark.parametrize("task", CLASSES)
def test_rows_of_any_lengths_together_are_each_row_alone_in_onnx(task, models, tmp_path):
    """The other families: test_family_table.py."""
    folder, file = models(task)
    rows = rows_of(task)
    place = only_onnx(folder, tmp_path / "exported")
    shutil.copyfile(file, place / "model.onnx")
    equal(loaded(place).logits(rows), plain(folder, task, rows))


LAYOUTS = {
    "onnx/model.onnx": "onnx-fp32",
    "model_optimized.onnx": "onnx-fp32",
    "model_quantized.onnx": "onnx-int8",
    "onnx/model_quantized.onnx": "onnx-int8",
    "onnx/model_int8.onnx": "onnx-int8",
}


@pytest.mark.parametrize("file", LAYOUTS)
def test_the_layouts_of_the_usual_exporters_are_found(file, models, tmp_path, cli):
    folder, original = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    (place / file).parent.mkdir(exist_ok=True)
    shutil.copyfile(original, place / file)
    source = runtimes.find(str(place))
    assert runtimes.available(source) == [LAYOUTS[file]]
    assert runtimes.chosen(source, "auto") == LAYOUTS[file]
    rows = rows_of("ner")
    equal(loaded(place, LAYOUTS[file]).logits(rows), plain(folder, "ner", rows))
    before = runtimes.digest(source, LAYOUTS[file])
    edited(original, place / file, lambda model: setattr(model, "producer_name", "another"))
    assert runtimes.digest(source, LAYOUTS[file]) != before
    (tmp_path / "in.txt").write_text(TEXT + "\n")
    out = tmp_path / "out.jsonl"
    assert cli("annotate", "--model", place, tmp_path / "in.txt", "--out", out, "--workers", "1")[0] == 0
    assert json.loads(Path(f"{out}.run.json").read_text())["result"]["runtimes"] == {"theirs": LAYOUTS[file]}


SERVED = {
    "int32 inputs": [fed_as(TensorProto.INT32, "input_ids", "attention_mask", "token_type_ids")],
    "a float mask": [fed_as(TensorProto.FLOAT, "attention_mask")],
    "a half-precision mask": [fed_as(TensorProto.FLOAT16, "attention_mask")],
    "a mask of bytes": [fed_as(TensorProto.INT8, "attention_mask"), fed_as(TensorProto.UINT8, "token_type_ids")],
    "a boolean mask": [fed_as(TensorProto.BOOL, "attention_mask")],
    "TensorFlow's names": [
        renamed(input_ids="input_ids:0", attention_mask="input_mask:0", token_type_ids="segment_ids:0")
    ],
    "another output name": [renamed(logits="output_0", start_logits="output_0", end_logits="output_1")],
    "positions": [with_positions],
    "a fixed number of rows": [fixed(rows=1)],
    "several rows at once": [fixed(rows=4)],
    "a fixed length": [fixed(rows=1, length=32)],
    "fp16 outputs": [given_as(TensorProto.FLOAT16, name) for name in ("logits", "start_logits", "end_logits")],
    "more outputs": [with_extra_output],
}


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("kind", SERVED)
def test_what_other_exporters_write_is_served_with_the_same_logits(task, kind, models, tmp_path):
    folder, file = models(task)
    place = only_onnx(folder, tmp_path / "theirs")
    outputs = {value.name for value in onnx.load(file).graph.output}
    edits = SERVED[kind]
    if kind == "fp16 outputs":
        edits = [given_as(TensorProto.FLOAT16, name) for name in outputs]
    edited(file, place / "model.onnx", *edits)
    rows = rows_of(task)
    equal(loaded(place).logits(rows), plain(folder, task, rows), atol=5e-3 if "fp16" in kind else 1e-4)


def as_baked(model: onnx.ModelProto) -> None:
    """Rows of any length are declared, but a constant of the traced length is added to the embeddings."""
    [table] = [t.name for t in model.graph.initializer if t.name.endswith("position_embeddings.weight")]
    [node] = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] == table]
    model.graph.initializer.append(helper.make_tensor("traced", TensorProto.INT64, [1, 16], list(range(16))))
    node.input[1] = "traced"


def with_input(name: str):
    def edit(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]))
        model.graph.node.append(helper.make_node("Identity", [name], ["unused"]))

    return edit


def without_mask(model: onnx.ModelProto) -> None:
    """The mask is no input: all tokens count."""
    for node in model.graph.node:
        node.input[:] = ["ones" if name == "attention_mask" else name for name in node.input]
    [mask] = [value for value in model.graph.input if value.name == "attention_mask"]
    model.graph.input.remove(mask)
    shape = helper.make_node("Shape", ["input_ids"], ["its_shape"])
    value = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["its_shape"], ["ones"], value=value))
    model.graph.node.insert(0, shape)


def ended_by(operation: str, *outputs: str, by: float | None = None, **options: int):
    """Outputs of a further operation on the logits, with a number as its second input where there is one."""

    def edit(model: onnx.ModelProto) -> None:
        for output in outputs or ("logits",):
            before = f"{output}_before_{operation}"
            for node in model.graph.node:
                node.output[:] = [before if name == output else name for name in node.output]
            inputs = [before] if by is None else [before, f"{before}_number"]
            model.graph.node.append(helper.make_node(operation, inputs, [output], **options))
            if by is not None:
                model.graph.initializer.append(helper.make_tensor(inputs[1], TensorProto.FLOAT, [], [by]))

    return edit


def softmax_of_parts(model: onnx.ModelProto) -> None:
    """A softmax as it is without an operation of its own."""
    given_as(TensorProto.FLOAT, "logits")(model)
    cast = model.graph.node.pop()
    model.graph.node.append(helper.make_node("Exp", list(cast.input), ["powers"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["powers", "last"], ["their_sum"], keepdims=1))
    model.graph.node.append(helper.make_node("Div", ["powers", "their_sum"], list(cast.output)))
    model.graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [-1]))


def without_head(model: onnx.ModelProto) -> None:
    """The states before the classifier are what it gives, as an export without a task has it."""
    made = {name: node for node in model.graph.node for name in node.output}
    node = made["states"]
    node = node if node.op_type in ("MatMul", "Gemm") else made[node.input[0]]
    model.graph.output[0].name = node.input[0]
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 24


def with_nan(model: onnx.ModelProto) -> None:
    given_as(TensorProto.FLOAT, "logits")(model)
    cast = model.graph.node.pop()
    model.graph.node.append(helper.make_node("Sub", [cast.input[0], "infinite"], ["far"]))
    model.graph.node.append(helper.make_node("Mul", ["far", "nothing"], list(cast.output)))
    for name, value in (("infinite", np.inf), ("nothing", 0.0)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [1], [value]))


def with_twin(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["first"], ["second"]))
    twin = model.graph.output.add()
    twin.CopyFrom(model.graph.output[0])
    twin.name = "second"


def test_without_a_mask_no_row_is_padded(models, tmp_path):
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    edited(file, place / "model.onnx", without_mask)
    rows = rows_of("ner")
    equal(loaded(place).logits(rows), plain(folder, "ner", rows))


def test_a_mask_that_does_not_hide_padding_is_noticed(models, tmp_path):
    """The mask is an input, but what it is used for makes nothing of it: rows are run by equal lengths then."""

    def deaf(model: onnx.ModelProto) -> None:
        without_mask(model)
        with_input("attention_mask")(model)

    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    edited(file, place / "model.onnx", deaf)
    rows = rows_of("ner")
    equal(loaded(place).logits(rows), plain(folder, "ner", rows))


REFUSED = {
    "an unknown input": ([with_input("bbox")], "bbox"),
    "past keys": ([with_input("past_key_values.0.key")], "past_key_values"),
    "two outputs alike": ([renamed(logits="first"), with_twin], "output"),
    "embeddings as input": ([renamed(input_ids="inputs_embeds")], "inputs_embeds"),
    "inputs that tracing named": ([renamed(input_ids="input.1", attention_mask="input.3")], "names"),
    "hidden states": ([renamed(logits="states"), without_head], "shape"),
    "NaN": ([with_nan], "NaN"),
    "a newer opset": ([lambda model: setattr(model.opset_import[0], "version", 99)], "newer"),
    "a newer format": ([lambda model: setattr(model, "ir_version", 99)], "newer"),
    "a traced length": ([as_baked], "tokens"),
    "probabilities": ([ended_by("Softmax", axis=-1)], "probabilities"),
    "probabilities of several labels": ([ended_by("Sigmoid")], "probabilities"),
    "ids in bytes": ([fed_as(TensorProto.INT8, "input_ids")], "int8"),
    "a fixed length without a mask": ([without_mask, fixed(length=32)], "padding"),
    "a length that is too short": ([fixed(length=2)], "2 tokens"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_one_sentence_at_load(kind, models, tmp_path, cli):
    edits, word = REFUSED[kind]
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    edited(file, place / "model.onnx", *edits)
    (tmp_path / "in.txt").write_text(TEXT + "\n")
    one_sentence(
        cli("annotate", "--model", place, tmp_path / "in.txt", "--out", tmp_path / "out.jsonl", "--workers", "1"),
        "model.onnx",
        word,
    )


PROBABILITIES = {
    "softmax of relations": ("relation", [ended_by("Softmax", axis=-1)]),
    "softmax of parts": ("relation", [softmax_of_parts]),
    "sigmoid of relations": ("relation", [ended_by("Sigmoid")]),
    "half-precision sigmoid": ("relation", [ended_by("Sigmoid"), given_as(TensorProto.FLOAT16, "logits")]),
    "softmax of questions": ("qa", [ended_by("Softmax", "start_logits", "end_logits", axis=1)]),
    "softmax of questions of a fixed length": (
        "qa",
        [ended_by("Softmax", "start_logits", "end_logits", axis=1), fixed(rows=1, length=32)],
    ),
    "sigmoid of questions": ("qa", [ended_by("Sigmoid", "start_logits", "end_logits")]),
}


@pytest.mark.parametrize("file", ["model.onnx", "model_quantized.onnx"])
@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_refused_in_each_task(kind, file, models, tmp_path):
    task, edits = PROBABILITIES[kind]
    folder, original = models(task)
    place = only_onnx(folder, tmp_path / "theirs")
    edited(original, place / file, *edits)
    with pytest.raises(UserError, match="holds probabilities, not logits"):
        loaded(place, LAYOUTS.get(file, "onnx-fp32"))


@pytest.mark.parametrize("task", CLASSES)
def test_logits_that_happen_to_lie_between_0_and_1_are_served(task, models, tmp_path):
    """As those of an untrained model may."""
    folder, file = models(task)
    place = only_onnx(folder, tmp_path / "theirs")
    names = ("start_logits", "end_logits") if task == "qa" else ("logits",)
    edited(file, place / "model.onnx", ended_by("Mul", *names, by=0.05), ended_by("Add", *names, by=0.4))
    rows = rows_of(task)
    found = loaded(place).logits(rows)
    assert all(((values >= 0) & (values <= 1)).all() for values in found)
    equal(found, [values * np.float32(0.05) + np.float32(0.4) for values in plain(folder, task, rows)])


def test_logits_that_are_not_finite_are_refused_wherever_they_come_up(models, tmp_path):
    def edit(model: onnx.ModelProto) -> None:
        [table] = [t for t in model.graph.initializer if t.name.endswith("token_type_embeddings.weight")]
        values = onnx.numpy_helper.to_array(table).copy()
        values[1] = np.nan
        table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))

    folder, file = models("qa")
    place = only_onnx(folder, tmp_path / "theirs")
    edited(file, place / "model.onnx", edit)
    runtime, row = loaded(place), rows_of("ner", [8])[0]  # of one segment
    assert np.isfinite(runtime.logits([row])[0]).all()
    with pytest.raises(UserError, match=r"model\.onnx: it computes NaN or infinite logits"):
        runtime.logits([replace(row, segments=np.ones(8, dtype=np.int64))])


def test_files_that_are_no_model_are_one_sentence(models, tmp_path):
    folder, _ = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"):
        (place / "model.onnx").write_bytes(content)
        with pytest.raises(UserError, match=r"model\.onnx.*cannot read"):
            loaded(place)


def test_ids_in_half_precision_are_refused_where_it_cannot_hold_them(models, tmp_path):
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    edited(file, place / "model.onnx", fed_as(TensorProto.FLOAT16, "input_ids"))
    assert loaded(place).logits(rows_of("ner"))
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"vocab_size": 30_000}))
    with pytest.raises(UserError, match=r"float16.*below 30,000.*int64"):
        loaded(place)


def test_labels_of_another_number_are_refused_at_load(models, tmp_path):
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    shutil.copyfile(file, place / "model.onnx")
    config = json.loads((place / "config.json").read_text())
    config["id2label"] |= {"3": "B-Gene"}
    config["label2id"] |= {"B-Gene": 3}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"3 .*4|4 .*3"):
        loaded(place)


def test_a_question_model_without_segments_is_refused(models, tmp_path):
    folder, _ = models("qa")
    place = only_onnx(folder, tmp_path / "theirs")
    save_program(program_of(CLASSES["qa"].from_pretrained(folder).eval(), "ner"), place / "model.onnx")
    with pytest.raises(UserError, match="token_type_ids"):
        loaded(place)


def test_a_fixed_length_cuts_rows_as_the_models_own_length_does(models, tmp_path, cli):
    """Texts longer than the ONNX file takes are covered by windows of its length."""
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    edited(file, place / "model.onnx", fixed(rows=1, length=24))
    annotator = Annotator.from_pretrained(place)
    assert annotator.taggers[0].model.max_length == 24
    text = "aspirin insulin of the patients " * 20
    own = Annotator.from_pretrained(folder, runtime="torch-fp32")
    tagger = replace(own.taggers[0], model=replace(own.taggers[0].model, max_length=24))
    [found], [wanted] = annotator([text]), Annotator([tagger])([text])
    assert [(e.start, e.end, e.type) for e in found] == [(e.start, e.end, e.type) for e in wanted] and found
    (tmp_path / "test.tsv").write_text("".join(f"{word}\tB-Drug\n" for word in text.split()))
    status, _, messages = cli(
        "evaluate", tmp_path / "test.tsv", "--model", place, "--write-predictions", tmp_path / "out.jsonl"
    )
    assert status == 0, messages
    predicted = json.loads((tmp_path / "out.jsonl").read_text())
    assert len(predicted["spans"]) == len(found)


@pytest.mark.parametrize("name", ["model.onnx_data", "model.onnx.data", "weights.bin"])
def test_weights_in_another_file_are_read_and_missed_by_name(name, models, tmp_path):
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    onnx.save_model(onnx.load(file), place / "model.onnx", save_as_external_data=True, location=name)
    rows = rows_of("ner")
    equal(loaded(place).logits(rows), plain(folder, "ner", rows))
    source = runtimes.find(str(place))
    before = runtimes.digest(source, "onnx-fp32")
    content = bytearray((place / name).read_bytes())
    content[100] ^= 1
    (place / name).write_bytes(content)
    assert runtimes.digest(source, "onnx-fp32") != before
    (place / name).unlink()
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        loaded(place)


# What auto takes, and files that are not of the weights beside them.


NEW = ("model", "weights", "config", "sha256")  # of each export; records of earlier versions lack them


def retrained(folder: Path) -> None:
    """Other weights of the same shapes."""
    weights = load_file(folder / "model.safetensors")
    save_file({key: value * 1.5 for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def own_export(models, tmp_path_factory) -> Path:
    """A folder with weights, and an export of them."""
    place = tmp_path_factory.mktemp("own") / "own"
    shutil.copytree(models("ner")[0], place)
    export(str(place), "onnx", place)
    return place


def copy(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def test_auto_is_what_the_folder_was_exported_for(own_export, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "tokens_per_second", lambda *_: pytest.fail("auto measured"))
    place = copy(own_export, tmp_path / "own")
    source = runtimes.find(str(place))
    assert runtimes.chosen(source, "auto") == "onnx-fp32"
    # An int8 file that the gate let pass is what the folder was exported for; one that came from elsewhere is not.
    shutil.copyfile(place / "model.onnx", place / "model_int8.onnx")
    assert runtimes.chosen(source, "auto") == "onnx-fp32"
    record = json.loads((place / "export.json").read_text())
    record["exports"]["model_int8.onnx"] = record["exports"]["model.onnx"]
    (place / "export.json").write_text(json.dumps(record))
    assert runtimes.chosen(source, "auto") == "onnx-int8"
    for damaged in ("{", "[]", '{"exports": 3}', '{"exports": {"model.onnx": []}}', '"x"', "", "[" * 9999):
        (place / "export.json").write_text(damaged)
        assert runtimes.chosen(source, "auto") == "torch-fp32"
        with pytest.raises(UserError, match=r"export\.json"):
            runtimes.load(source, "onnx-fp32")
    (place / "model.safetensors").unlink()
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "onnx-fp32"
    (place / "export.json").unlink()
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "onnx-fp32"


def test_a_stale_export_is_never_used_and_refused_by_name(own_export, tmp_path, cli):
    place = copy(own_export, tmp_path / "own")
    retrained(place)
    source = runtimes.find(str(place))
    assert runtimes.available(source)[0] == "torch-fp32" and "onnx-fp32" not in runtimes.available(source)
    assert runtimes.chosen(source, "auto") == "torch-fp32"
    assert runtimes.chosen(source, "fastest") in runtimes.TORCH
    with pytest.raises(UserError, match=r"model\.onnx.*other weights.*export"):
        runtimes.load(source, "onnx-fp32")
    data = ner_folder(tmp_path / "made", {"train": 2, "devel": 4, "test": 4}, kind="Drug")
    one_sentence(cli("evaluate", data, "--model", place, "--runtime", "onnx-fp32"), "model.onnx", "other weights")
    status, printed, _ = cli("evaluate", data, "--model", place, "--runtime", "auto", "--json")
    assert status == 0 and json.loads(printed)["model"]["runtime"] == "torch-fp32"
    # Exported again it is of these weights.
    export(str(place), "onnx", place)
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "onnx-fp32"
    rows = rows_of("ner")
    equal(loaded(place).logits(rows), plain(place, "ner", rows))


def test_records_of_before_are_read(own_export, tmp_path):
    """They name the weights, with the configuration, once for all exports."""
    place = copy(own_export, tmp_path / "own")
    record = json.loads((place / "export.json").read_text())
    old = {key: value for key, value in record["exports"]["model.onnx"].items() if key not in NEW}
    (place / "export.json").write_text(json.dumps({"model": record["model"], "exports": {"model.onnx": old}}))
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "onnx-fp32"
    retrained(place)
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "torch-fp32"


def test_exporting_one_format_again_does_not_vouch_for_the_other(own_export, tmp_path):
    place = copy(own_export, tmp_path / "own")
    record = json.loads((place / "export.json").read_text())
    shutil.copyfile(place / "model.onnx", place / "model_int8.onnx")
    record["exports"]["model_int8.onnx"] = record["exports"]["model.onnx"]
    (place / "export.json").write_text(json.dumps(record))
    retrained(place)
    export(str(place), "onnx", place)
    source = runtimes.find(str(place))
    assert runtimes.chosen(source, "auto") == "onnx-fp32"
    with pytest.raises(UserError, match=r"model_int8\.onnx"):
        runtimes.load(source, "onnx-int8")


def test_an_export_keeps_its_weights_when_labels_are_named_anew(own_export, tmp_path):
    place = copy(own_export, tmp_path / "own")
    config = (place / "config.json").read_text()
    (place / "config.json").write_text(config.replace("Drug", "Medicine"))
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "onnx-fp32"
    assert Annotator.from_pretrained(place).taggers[0].types == ["Medicine"]


def test_an_export_of_another_computation_is_stale(own_export, tmp_path):
    place = copy(own_export, tmp_path / "own")
    record, config = place / "export.json", json.loads((place / "config.json").read_text())
    config = {"layer_norm_eps": 1e-12, **dict(reversed(config.items()))}  # a default written out, another order
    config |= {"problem_type": "x", "dtype": "float64"}
    config |= {
        settings.JOINED_SIGNS: ["-"],
        settings.TAG_SCHEME: settings.IOB2,
        settings.RELATION_CLASSES: {"negative": []},
    }
    (place / "config.json").write_text(json.dumps(config))
    assert runtimes.chosen(runtimes.find(str(place)), "auto") == "onnx-fp32"
    (place / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    source = runtimes.find(str(place))
    assert runtimes.chosen(source, "auto") == "torch-fp32"
    with pytest.raises(UserError, match=r"model\.onnx.*another configuration.*export"):
        runtimes.load(source, "onnx-fp32")
    # Records of before say nothing of it.
    record.write_text(json.dumps(without_config(json.loads(record.read_text()))))
    assert runtimes.chosen(source, "auto") == "onnx-fp32"


def without_config(record: dict) -> dict:
    del record["exports"]["model.onnx"]["config"]
    return record


@pytest.mark.parametrize("family", [*small_models.FAMILIES, *small_models.OTHERS])
def test_a_configuration_that_is_read_and_saved_again_is_the_same(family, tmp_path):
    config = AutoConfig.for_model(family, num_hidden_layers=2, num_labels=5)
    config.save_pretrained(tmp_path)
    first = loading.configured(tmp_path).config
    first.save_pretrained(tmp_path)
    wanted = config_digest(first)
    assert config_digest(loading.configured(tmp_path).config) == wanted
    (tmp_path / "config.json").write_text(json.dumps(first.to_dict()))
    assert config_digest(loading.configured(tmp_path).config) == wanted
    first.num_hidden_layers = 3
    assert config_digest(first) != wanted


def test_int8_from_elsewhere_beside_weights_is_of_them(own_export, tmp_path):
    place = copy(own_export, tmp_path / "own")
    model = loading.load_for(find_weights(place), "ner").eval()
    for per_channel in (False, True):
        Quantiser(onnx_ir.load(place / "model.onnx"), model, "ner", place).make(per_channel=per_channel)
        assert loaded(place, "onnx-int8").logits(rows_of("ner"))
    retrained(place)
    with pytest.raises(UserError, match=r"model_int8\.onnx.*other logits than the weights"):
        loaded(place, "onnx-int8")


def test_a_file_from_elsewhere_beside_weights_is_used_when_asked_and_equal(own_export, tmp_path):
    place = copy(own_export, tmp_path / "own")
    (place / "export.json").unlink()
    (place / "onnx").mkdir()
    (place / "model.onnx").rename(place / "onnx" / "model.onnx")
    source = runtimes.find(str(place))
    assert runtimes.chosen(source, "auto") == "torch-fp32"
    rows = rows_of("ner")
    equal(runtimes.load(source, "onnx-fp32").logits(rows), plain(place, "ner", rows))
    retrained(place)
    with pytest.raises(UserError, match=r"model\.onnx.*other logits than the weights"):
        loaded(place)


def test_a_file_put_in_the_place_of_an_export_is_not_taken_for_it(own_export, tmp_path):
    place, other = copy(own_export, tmp_path / "own"), copy(own_export, tmp_path / "other")
    retrained(other)
    export(str(other), "onnx", other)
    shutil.copyfile(other / "model.onnx", place / "model.onnx")
    source = runtimes.find(str(place))
    assert runtimes.chosen(source, "auto") == "torch-fp32"
    with pytest.raises(UserError, match=r"model\.onnx.*other logits than the weights"):
        runtimes.load(source, "onnx-fp32")


def test_without_weights_a_file_that_the_record_does_not_describe_is_refused(own_export, tmp_path, cli):
    place = only_onnx(own_export, tmp_path / "exported")
    assert runtimes.chosen(runtimes.find(place), "auto") == "onnx-fp32"
    # Beside the export it is recorded as, a copy under the name of another precision is not taken.
    shutil.copyfile(place / "model.onnx", place / "model_int8.onnx")
    assert runtimes.available(runtimes.find(place)) == ["onnx-fp32"]
    with pytest.raises(UserError, match=r"model_int8\.onnx: it is not the file that export\.json describes"):
        loaded(place, "onnx-int8")
    (place / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"model_int8\.onnx: it is not the file"):
        runtimes.find(place)
    (place / "model_int8.onnx").unlink()
    edited(own_export / "model.onnx", place / "model.onnx", lambda model: setattr(model, "doc_string", "another"))
    data = ner_folder(tmp_path / "made", {"test": 4}, kind="Drug")
    one_sentence(cli("evaluate", data, "--model", place), "model.onnx: it is not the file", "delete export.json")
    (place / "export.json").unlink()
    assert runtimes.chosen(runtimes.find(place), "auto") == "onnx-fp32"


def test_a_folder_of_unknown_onnx_files_says_what_to_name_them(models, tmp_path, cli):
    folder, file = models("ner")
    place = only_onnx(folder, tmp_path / "theirs")
    shutil.copyfile(file, place / "bert-ner.onnx")
    (tmp_path / "in.txt").write_text(TEXT + "\n")
    outcome = cli("annotate", "--model", place, tmp_path / "in.txt", "--out", tmp_path / "out.jsonl")
    one_sentence(outcome, "bert-ner.onnx", "model.onnx")


def test_a_hub_models_onnx_files_are_taken_from_the_cache(models, tmp_path, monkeypatch):
    """Only what may be used is asked for: of a model with weights none, unless it is named."""
    folder, file = models("ner")
    snapshot = copy(folder, tmp_path / "snapshot")
    (snapshot / "onnx").mkdir()
    shutil.copyfile(file, snapshot / "onnx" / "model.onnx")
    asked = []

    def cached(name, *, allow_patterns, **_):
        asked.append([pattern for pattern in allow_patterns if "onnx" in pattern])
        return str(snapshot)

    monkeypatch.setattr("compactbio.hub.snapshot_download", cached)
    assert runtimes.chosen(runtimes.find("owner/name"), "auto") == "torch-fp32"
    assert asked == [[]]
    source = runtimes.find("owner/name", "onnx-fp32")
    assert "onnx/model.onnx*" in asked[-1] and not any("quantized" in pattern for pattern in asked[-1])
    rows = rows_of("ner")
    equal(runtimes.load(source, "onnx-fp32").logits(rows), plain(folder, "ner", rows))
    (snapshot / "model.safetensors").unlink()
    assert runtimes.chosen(runtimes.find("owner/name"), "auto") == "onnx-fp32"
    assert "onnx/model_quantized.onnx*" in asked[-1]


def test_profile_and_evaluate_on_a_folder_without_weights(own_export, tmp_path, cli):
    place = only_onnx(own_export, tmp_path / "exported")
    one_sentence(cli("profile", place), "ONNX", "weights")
    data = ner_folder(tmp_path / "made", {"train": 2, "devel": 4, "test": 4}, kind="Drug")
    scores = {}
    for runtime in (None, "auto", "fastest", "onnx-fp32"):
        status, printed, messages = cli(
            "evaluate", data, "--model", place, "--json", *([] if runtime is None else ["--runtime", runtime])
        )
        assert status == 0, messages
        found = json.loads(printed)
        assert found["model"]["runtime"] == "onnx-fp32"
        scores[runtime] = (found["scores"], found["model"]["sha256"])
    assert len({json.dumps(score) for score in scores.values()}) == 1
    one_sentence(cli("evaluate", data, "--model", place, "--runtime", "torch-fp32"), "exported")
    one_sentence(cli("evaluate", data, "--model", place, "--runtime", "onnx-int8"), "model_int8.onnx")


def test_the_runtime_is_in_every_record(own_export, tmp_path, cli):
    place = copy(own_export, tmp_path / "own")
    (tmp_path / "in.txt").write_text(TEXT + "\n")
    status, _, messages = cli("annotate", "--model", place, tmp_path / "in.txt", "--out", "-")
    assert status == 0 and "own on onnx-fp32" in messages
    out = tmp_path / "out.jsonl"
    other = copy(own_export, tmp_path / "elsewhere" / "own")
    status, printed, messages = cli(
        "annotate",
        "--model",
        f"A={place}",
        "--model",
        f"B={other}",
        tmp_path / "in.txt",
        "--out",
        out,
        "--workers",
        "1",
        "--json",
    )
    assert status == 0, messages
    used = json.loads(printed)["runtimes"]
    assert len(used) == 2 and set(used.values()) == {"onnx-fp32"} and str(tmp_path) not in json.dumps(used)
    record = json.loads(Path(f"{out}.run.json").read_text())
    assert record["identity"]["runtimes"] == ["onnx-fp32"] * 2 and record["result"]["runtimes"] == used


def test_short_models_are_exported_and_timed_too(tokenizer_folder, tmp_path):
    """Random sentences are never longer than a model has positions."""
    place = headed(tmp_path / "short", tokenizer_folder, "ner", "bert")
    config = json.loads((place / "config.json").read_text())
    config["max_position_embeddings"] = 16
    (place / "config.json").write_text(json.dumps(config))
    weights = load_file(place / "model.safetensors")
    key = "bert.embeddings.position_embeddings.weight"
    weights[key] = weights[key][:16].clone()
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    export(str(place), "onnx", place)
    assert runtimes.chosen(runtimes.find(str(place)), "fastest") in runtimes.NAMES
    assert find_weights(str(place)).digest and torch.is_tensor(weights[key])
