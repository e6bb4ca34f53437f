"""An exported model says what the original says, and int8 is kept only where it keeps the score."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoTokenizer

from compactbio import Annotator, annotate_files
from compactbio.deploy import export as exporting
from compactbio.deploy.export import export
from compactbio.deploy.gate import Gate, gate
from compactbio.deploy.onnx_programs import _EMBEDDINGS, Quantiser
from compactbio.errors import UserError
from compactbio.evaluation.scoring import evaluate
from compactbio.modeling import hardware, loading, runtimes
from compactbio.tasks import calibration_file
from compactbio.tasks.data import find
from conftest import one_sentence
from task_data import ner_folder

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytestmark = pytest.mark.usefixtures("kept_programs")
TEXTS = ["The patients of aspirin and insulin daily\nRisk of lung cancer", "", "the group", "insulin " * 40]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return ner_folder(
        tmp_path_factory.mktemp("data") / "made", {"train": 4, "devel": 30, "test": 30}, seed=9, kind="Drug"
    )


@pytest.fixture(scope="module")
def exported(tagger, data, tmp_path_factory):
    """The tagger exported in both ways into one folder."""
    out = tmp_path_factory.mktemp("exported") / "out"
    plain = export(str(tagger), "onnx", out)
    return out, plain, export(str(tagger), "onnx-int8", out, data=data, max_loss=5.0)


def test_both_models_are_timed_on_the_processor_where_there_is_a_gpu_too(tagger, tmp_path, monkeypatch):
    seen = []
    for name in ("load", "tokens_per_second"):
        function = getattr(runtimes, name)
        monkeypatch.setattr(runtimes, name, lambda *given, f=function: seen.append(hardware._chosen.get()) or f(*given))
    export(str(tagger), "onnx", tmp_path / "out")
    assert seen == ["cpu", "cpu"]


def test_the_fp32_export_finds_the_same_entities(tagger, exported):
    out, plain, _ = exported
    assert (plain.way, plain.original.score, plain.exported.score) == ("", None, None)
    original = Annotator.from_pretrained(tagger, runtime="torch-fp32")(TEXTS)
    found = Annotator.from_pretrained(out, runtime="onnx-fp32")(TEXTS)
    assert any(original)
    for own, other in zip(original, found, strict=True):
        assert [(e.start, e.end, e.type) for e in own] == [(e.start, e.end, e.type) for e in other]
        assert np.allclose([e.score for e in own], [e.score for e in other], atol=1e-4)


def test_fp32_keeps_the_calibration_and_int8_is_fitted_by_its_gate(tagger, exported):
    out, plain, int8 = exported
    kept = calibration_file.read(out)
    original = calibration_file.read(tagger)["torch-fp32"].calibration
    assert set(kept) == {"onnx-fp32", "onnx-int8"} and kept["onnx-fp32"].calibration == original
    fitted = kept["onnx-int8"].calibration
    assert plain.calibration["temperature"] == original.temperature
    assert int8.calibration["temperature"] == fitted.temperature and fitted.data["sha256"] == int8.data["sha256"]
    for runtime, wanted in (("onnx-fp32", original), ("onnx-int8", fitted)):
        annotator = Annotator.from_pretrained(out, runtime=runtime, min_precision=0.8)
        assert annotator.taggers[0].model.scoring.temperature == wanted.temperature != 1.0
        assert any(annotator(TEXTS))
    assert "calibrated on made, devel: temperature" in (out / "README.md").read_text()


def test_the_folder_is_whole_and_says_what_int8_cost(tagger, exported, data):
    out, plain, int8 = exported
    assert {path.name for path in out.iterdir()} == {
        "README.md", "calibration.json", "calibration.png", "config.json", "export.json", "model.onnx",
        "model_int8.onnx", "run.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert int8.way.startswith("by ") and int8.data["split"] == "devel"
    assert 100 * (int8.original.score - int8.exported.score) <= 5.0
    assert int8.exported.bytes < plain.exported.bytes
    assert int8.scores == ((int8.original.score, int8.exported.score),)
    record = json.loads((out / "export.json").read_text())
    assert set(record["exports"]) == {"model.onnx", "model_int8.onnx"}
    kept = record["exports"]["model_int8.onnx"]
    assert kept["protocol"] == "word" and kept["seed"] == 0
    for side, model, runtime in (("original", tagger, "torch-fp32"), ("exported", out, "onnx-int8")):
        assert kept[side]["interval"] == list(evaluate(model, data, split="devel", runtime=runtime).interval)
    card = (out / "README.md").read_text()
    assert f"{100 * int8.original.score:.2f}" in card and f"{100 * int8.exported.score:.2f}" in card
    assert str(out.parent) not in card and "MB" in card and "tokens/s" in card
    assert AutoTokenizer.from_pretrained(out).mask_token == "[MASK]"


def test_auto_chooses_among_what_the_folder_holds(tagger, exported, tmp_path):
    out, _, _ = exported
    assert runtimes.available(runtimes.find(str(out))) == ["onnx-fp32", "onnx-int8"]
    own = tmp_path / "own"
    shutil.copytree(tagger, own)
    before = loading.find(str(own)).digest
    export(str(own), "onnx", own)
    # An export beside it makes the model no other one; what each runtime reads is told apart.
    source = loading.find(str(own))
    assert source.digest == before == runtimes.digest(source, "torch-fp32") != runtimes.digest(source, "onnx-fp32")
    assert {"torch-fp32", "onnx-fp32"} <= set(runtimes.available(runtimes.find(str(own))))
    assert runtimes.fastest(runtimes.find(str(own))) in runtimes.NAMES
    assert "fine-tuned for named entity" in (own / "README.md").read_text()


def test_int8_that_loses_too_much_is_refused_after_every_way(tagger, data, tmp_path, monkeypatch):
    messages = []
    scored, first = Gate.outcomes, []

    def lost(self, logits):
        """The original's outcome, and of all that is tried one without a point."""
        found = scored(self, logits)
        points = 0.0 if first else found[0].main
        first.append(found)
        return [replace(one, scores={**one.scores, "f1": points}) for one in found]

    monkeypatch.setattr(Gate, "outcomes", lost)

    class Listener:
        def step(self, stage, done, total):
            pass

        def note(self, sentence):
            messages.append(sentence)

    with pytest.raises(UserError, match=rf"Int8 loses more than .* has [0-9.]+ of [0-9.]+ on {data.name}; export"):
        export(str(tagger), "onnx-int8", tmp_path / "out", data=data, listener=Listener())
    ways = [sentence for sentence in messages if sentence.startswith("int8, ")]
    assert any("by tensor" in way for way in ways) and any("by channel:" in way for way in ways)
    assert any("without" in way for way in ways)
    assert not (tmp_path / "out").exists()


FULL = OSError(errno.ENOSPC, "full", "made", None, "out/made")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FULL])
@pytest.mark.parametrize("exists", [False, True])
def test_an_export_that_breaks_off_leaves_nothing_behind(error, exists, tagger, tmp_path, monkeypatch, cli):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(exporting.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(error))
        status, _, messages = cli("export", tagger, "--out", out)
    assert (status, "out/made: no space is left" in messages) in ((130, False), (2, True)), messages
    assert list(tmp_path.iterdir()) == ([out] if exists else []) and not list(tmp_path.rglob("*.onnx"))
    assert cli("export", tagger, "--out", out)[0] == 0
    assert Annotator.from_pretrained(out)("the patients of aspirin")


def test_the_card_of_an_export_names_the_model_of_the_hub_without_its_revision(tagger, tmp_path, monkeypatch):
    monkeypatch.setattr(loading.Source, "public_name", lambda self: "me/tagger@v1.0")
    export(str(tagger), "onnx", tmp_path / "out")
    assert "base_model: me/tagger\n" in (tmp_path / "out" / "README.md").read_text()
    (tmp_path / "texts.txt").write_text("the patients of aspirin\n")
    found = annotate_files(tmp_path / "texts.txt", tmp_path / "found.jsonl", models=str(tagger), workers=1)
    assert list(found.runtimes) == ["me/tagger@v1.0"]


def test_what_is_left_out_stays_in_fp32(tagger, tmp_path, kept_programs):
    import onnx

    source = loading.find(str(tagger))
    model = loading.load_for(source, "ner").eval()
    quantiser = Quantiser(kept_programs(model, "ner"), model, "ner", tmp_path)
    assert quantiser.groups() == [_EMBEDDINGS, "layer 0", "layer 1"]

    def products(**options) -> int:
        quantiser.make(per_channel=True, **options)
        return sum(node.op_type == "MatMulInteger" for node in onnx.load(tmp_path / "model_int8.onnx").graph.node)

    # Six products of weights a layer, and the head's.
    assert (products(), products(without=["layer 1"]), products(only="layer 0"), products(only=_EMBEDDINGS)) == (
        13,
        7,
        6,
        0,
    )


def test_what_a_user_can_fix_is_one_sentence(cli, tagger, teacher_folder, exported, data, tmp_path):
    one_sentence(cli("export", tagger, "--format", "onnx-int8", "--out", tmp_path / "out"), "--data")
    one_sentence(cli("export", tagger, "--split", "test", "--out", tmp_path / "out"), "A split is of a data set")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for split in ("train", "devel", "test"):
        (foreign / f"{split}.tsv").write_text("patients\tB-Drug\nwere\tO\n\n" * 8)
    with pytest.raises(UserError, match="foreign: the model scores 0 on it, so it cannot show what int8 costs"):
        export(tagger, "onnx-int8", tmp_path / "out", data=foreign)
    with pytest.raises(UserError, match="name a data set of the model's kind"):
        export(tagger, "onnx-int8", tmp_path / "out", data=[])
    one_sentence(cli("export", teacher_folder, "--out", tmp_path / "out"), "fine-tune it first")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    one_sentence(cli("export", tagger, "--out", tmp_path / "full"), "something other")
    (tmp_path / "file").write_text("")
    one_sentence(cli("export", tagger, "--out", tmp_path / "file"), "is a file")
    broken = tmp_path / "broken"
    shutil.copytree(exported[0], broken)
    whole = (broken / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.onnx: it is not the file that export\.json describes"):
        Annotator.from_pretrained(broken, runtime="onnx-fp32")
    (broken / "export.json").unlink()
    with pytest.raises(UserError, match=r"model\.onnx.*cannot read it"):
        Annotator.from_pretrained(broken, runtime="onnx-fp32")


def test_int8_is_never_scored_on_what_the_model_was_trained_on(cli, tagger, data, tmp_path):
    model = shutil.copytree(tagger, tmp_path / "copy")
    run, digests = json.loads((model / "run.json").read_text()), find(data).digests
    run["identity"] |= {"train_on": "train+devel", "data": {"name": "made", "single": False, **digests}}
    (model / "run.json").write_text(json.dumps(run))
    source = loading.find(model)
    assert gate(source, "ner", [data], None).described()["split"] == "test"
    assert gate(loading.find(tagger), "ner", [data], None).described()["split"] == "devel"
    command = ("export", model, "--format", "onnx-int8", "--out", tmp_path / "out", "--data")
    one_sentence(cli(*command, data, "--split", "devel"), "was trained on made, devel", "(option --split)")
    one_sentence(cli(*command, data / "devel.tsv"), "was trained on devel", "(option --data)")
    # Of a single file the part is scored that was not trained on.
    digest = digests["test"]
    run["identity"]["data"] = {"name": "test", "single": True, "train": digest, "devel": digest}
    (model / "run.json").write_text(json.dumps(run))
    (part,) = gate(source, "ner", [data / "test.tsv"], None).parts
    assert part.described["split"] == "test" and len(part.documents) == 6


def test_int8_of_a_single_file_is_accepted_on_its_devel_part_where_that_holds_a_mention(tagger, tmp_path):
    model, file = shutil.copytree(tagger, tmp_path / "copy"), tmp_path / "one.jsonl"

    def documents(without=()):
        spans = [{"start": 0, "end": 7, "type": "Drug"}]
        lines = ({"id": str(i), "text": "aspirin", "spans": [] if str(i) in without else spans} for i in range(40))
        return "\n".join(map(json.dumps, lines))

    def split():
        run = json.loads((model / "run.json").read_text())
        run["identity"] |= {"train_on": "train", "data": {"single": True, "train": find(file).digests["train"]}}
        (model / "run.json").write_text(json.dumps(run))
        (part,) = gate(loading.find(model), "ner", [file], None).parts
        assert list(part.documents) == find(file).read(part.described["split"])
        return part.described["split"]

    file.write_text(documents())
    assert split() == "devel"
    file.write_text(documents({document.id for document in find(file).read("devel")}))
    assert split() == "test"


def test_an_exported_model_is_scored_like_any_other(cli, exported, data, tagger):
    own = cli("evaluate", data, "--model", tagger, "--runtime", "torch-fp32", "--json")
    other = cli("evaluate", data, "--model", exported[0], "--runtime", "onnx-fp32", "--json")
    assert own[0] == other[0] == 0, (own[2], other[2])
    first, second = json.loads(own[1]), json.loads(other[1])
    assert first["scores"] == second["scores"] and second["model"]["parameters"] is None
    assert (first["model"]["runtime"], second["model"]["runtime"]) == ("torch-fp32", "onnx-fp32")
    status, printed, messages = cli("evaluate", data, "--model", exported[0])
    assert status == 0, messages
    assert f"model {exported[0].name} (onnx-" in printed or f"model {exported[0]} (onnx-" in printed
    assert "exported" in (exported[0] / "README.md").read_text()


def test_the_command_prints_what_it_wrote(cli, tagger, data, tmp_path):
    status, printed, messages = cli("export", tagger, "--data", data, "--out", tmp_path / "out", "--json")
    assert status == 0, messages
    found = json.loads(printed)
    assert found["original"]["score"] == found["exported"]["score"] and found["data"]["name"] == "made"
