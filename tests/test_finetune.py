"""Fine-tuning and evaluation end to end on small real models: learnt, chosen by devel, resumed, scored, told."""

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer, NomicBertConfig, PreTrainedModel, pipeline

from compactbio import formats
from compactbio.errors import UserError
from compactbio.evaluation.scoring import add_to_card, evaluate
from compactbio.modeling import hardware, loading
from compactbio.modeling.packing import AUTO
from compactbio.modeling.tokenizers import load_tokenizer
from compactbio.tasks import data as datasets
from compactbio.tasks import ner
from compactbio.training import grid_search
from compactbio.training.finetuning import finetune
from conftest import SHARED, distilbert, mobilebert, one_sentence
from interruptions import killed_at, stopping_at
from task_data import ner_folder, qa_folder, relation_folder

SIZES = {"train": 120, "devel": 30, "test": 40}
QUICK = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}


@pytest.fixture(scope="module")
def tagged(start, tmp_path_factory):
    """A data set of NER and a model fine-tuned on it."""
    place = tmp_path_factory.mktemp("tagged")
    data = ner_folder(place / "made", SIZES)
    result = finetune(data, str(start), place / "tagger", overrides=QUICK)
    return data, place / "tagger", result


def test_ner_is_learnt_and_scored(tagged):
    data, model, result = tagged
    assert result.state == "finished" and result.devel is not None and result.devel > 0.9
    low, high = result.interval
    assert 0 < low <= result.devel <= high <= 1
    found = evaluate(str(model), data)
    record = found.record()
    assert record["f1"] > 0.9 and record["protocol"] == "word" and record["seed"] == 0 and record["runs"] == 1
    assert record["interval"][0] <= record["f1"] <= record["interval"][1]
    assert record["data"] == {
        "name": "made",
        "split": "test",
        "sha256": datasets.find(data).digests["test"],
        "documents": 40,
        "mentions": sum(len(document.spans) for document in formats.read(data / "test.tsv")),
    }
    assert len(record["units"]) == 40 and not (model / "checkpoints").exists()


def test_what_was_trained_is_scored_on_the_device_that_models_run_on(tagged, start, tmp_path, monkeypatch):
    """A device whose tensors have no numbers stands in for a GPU: what is computed there cannot be read."""
    data, model, _ = tagged
    monkeypatch.setattr(hardware, "torch_device", lambda: "meta")
    with pytest.raises(RuntimeError, match="meta"):
        evaluate(str(model), data)
    save = PreTrainedModel.save_pretrained
    monkeypatch.setattr(
        PreTrainedModel,
        "save_pretrained",
        lambda self, *given, **more: None if self.device.type == "meta" else save(self, *given, **more),
    )
    with pytest.raises(RuntimeError, match="meta"):
        finetune(data, str(start), tmp_path / "out", overrides={**QUICK, "epochs": 1})


@pytest.mark.parametrize(("make", "metric"), [(relation_folder, "f1"), (qa_folder, "mrr")])
def test_relations_and_questions_are_learnt_and_scored(make, metric, start, tmp_path):
    data = make(tmp_path / "made", SIZES)
    settings = QUICK | {"epochs": 5}
    result = finetune(data, str(start), tmp_path / "out", overrides=settings)
    record = evaluate(str(tmp_path / "out"), data).record()
    assert result.task == {"f1": "relation", "mrr": "qa"}[metric]
    assert record[metric] > 0.8, record["scores"]
    if metric == "mrr":
        assert record["unit"] == "question" and len(record["units"]) == 40
        assert result.devel is not None
    else:
        assert result.devel is None  # GAD's devel file is empty
        assert "Class 1" in record["notes"][0]


@pytest.mark.parametrize("family", [distilbert, mobilebert])
def test_every_family_is_tuned_for_every_task(family, tokenizer_folder, tmp_path):
    model = tmp_path / "start"
    family().save_pretrained(model)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(model)
    for make in (ner_folder, relation_folder, qa_folder):
        data = make(tmp_path / make.__name__, {"train": 12, "devel": 6, "test": 6})
        out = tmp_path / f"{make.__name__}-out"
        result = finetune(data, str(model), out, overrides=QUICK | {"epochs": 1})
        assert result.step in (2, 3)
        found = evaluate(str(out), data)
        assert len(found.outcome.units) == 6 and found.task == result.task
        # What is in the folder is the start's encoder, trained on, as plain transformers loads it.
        tuned = AUTO[result.task].from_pretrained(out).base_model.state_dict()
        start = family().base_model.state_dict()
        moved = [name for name in start.keys() & tuned.keys() if not torch.allclose(start[name], tuned[name])]
        assert len(moved) > len(start) / 2


def test_the_folder_works_with_transformers_and_agrees_with_ours(start, tmp_path):
    data, model = ner_folder(tmp_path / "made", SIZES, kind="Thing"), tmp_path / "tagger"
    finetune(data, str(start), model, overrides=QUICK)
    documents = list(formats.read(data / "test.tsv"))
    found = evaluate(str(model), data, precision="fp32")
    tag = pipeline("token-classification", model=str(model), aggregation_strategy="first", device="cpu")
    for document, tags in zip(documents, found.predictions[0], strict=True):
        ours = {(span.start, span.end) for span in ner.spans(ner.split([document])[0], tags)}
        theirs = {(entity["start"], entity["end"]) for entity in tag(document.text)}
        assert ours == theirs, document.text
    config = json.loads((model / "config.json").read_text())
    assert config["id2label"] == {"0": "B-Thing", "1": "I-Thing", "2": "O"}


def test_the_card_holds_scores_with_all_that_says_what_they_are_worth(tagged):
    data, model, result = tagged
    evaluation = evaluate(str(model), data)
    add_to_card(model, evaluation)
    add_to_card(model, evaluation)
    card = (model / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    (indexed,) = front["model-index"][0]["results"]
    assert indexed["metrics"][2]["value"] == pytest.approx(evaluation.outcome.scores["f1"], abs=1e-6)
    read = ModelCard(card).data  # as the hub reads it
    assert read.model_name == "tagger" and {"precision", "recall", "f1"} <= {
        one.metric_type for one in read.eval_results
    }
    rows = [line for line in card.splitlines() if line.startswith("| made")]
    assert len(rows) == 2 and f"{100 * result.devel:.2f}" in rows[0] and "chose the epoch" in rows[0]
    assert f"{100 * evaluation.outcome.main:.2f}" in rows[1] and "word" in rows[1]
    assert datasets.find(data).digests["test"][:16] in rows[1]
    assert "seed 0" in card and 'pipeline("token-classification", model="tagger"' in card
    assert str(model.parent) not in card


def test_a_damaged_file_of_evaluations_is_begun_anew(tagged):
    data, model, _ = tagged
    evaluation = evaluate(str(model), data)
    for damaged in ("{", "5", '{"task": "ner"}', "[5]", "[" * 9999):
        (model / "evaluations.json").write_text(damaged)
        add_to_card(model, evaluation)
        (kept,) = json.loads((model / "evaluations.json").read_text())
        assert kept["f1"] == evaluation.outcome.main, damaged


def test_the_best_epoch_by_devel_is_kept(start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES)
    settings = QUICK | {"epochs": 6, "learning_rate": 0.2, "warmup": 0.0, "max_length": 32}
    result = finetune(data, str(start), tmp_path / "out", overrides=settings, precision="fp32")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    held = {line["step"] / 15: line["devel_f1"] for line in lines if "devel_f1" in line}
    assert set(held) == {3, 4, 5, 6} and result.epoch == max(held, key=held.get)
    assert result.devel == pytest.approx(max(held.values()), abs=1e-9)


def test_train_and_devel_together_leave_nothing_to_choose_by(start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES)
    result = finetune(data, str(start), tmp_path / "out", overrides=QUICK | {"epochs": 1}, train_on="train+devel")
    assert result.devel is None and result.step == 19  # 150 sentences, 8 a step


def _command(data: Path, start: Path, out: Path, *more: str) -> list[str]:
    sets = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "compactbio", "finetune", str(data), "--model", str(start), "--out", str(out),
            *sets, *more]  # fmt: skip


def _same(one: Path, two: Path) -> bool:
    a, b = (load_file(folder / "model.safetensors") for folder in (one, two))
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits_and_is_not_done_again(cli, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    status, printed, _ = cli(*_command(data, start, straight)[3:])
    assert status == 0 and re.search(r"devel   f1 \d+\.\d\d \(95 % interval", printed)
    killed_at(33, _command(data, start, killed)[3:])
    assert (killed / "checkpoints" / "checkpoint-30").is_dir()
    assert not (killed / "model.safetensors").exists()
    one_sentence(cli(*_command(data, start, killed)[3:]), "unfinished", "option --resume")
    assert cli(*_command(data, start, killed, "--resume")[3:])[0] == 0
    assert _same(straight, killed)
    status, printed, _ = cli(*_command(data, start, killed, "--json")[3:])
    assert status == 0 and json.loads(printed)["state"] == "already finished"


def test_a_run_of_another_tokenizer_is_not_this_one_and_old_records_name_none(start, tmp_path):
    data, model = ner_folder(tmp_path / "made", {"train": 8, "devel": 4, "test": 4}), tmp_path / "model"
    shutil.copytree(start, model)

    def tuned():
        return finetune(data, str(model), tmp_path / "out", overrides=QUICK | {"epochs": 1}).state

    assert [tuned(), tuned()] == ["finished", "already finished"]
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    with pytest.raises(UserError, match="out holds a run of another tokenizer; choose another output folder"):
        tuned()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    del record["identity"]["tokenizer"]
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    assert tuned() == "already finished"


def test_a_model_that_finds_nothing_right_on_devel_says_so(start, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 8, "devel": 8, "test": 4})
    lost = finetune(data, str(start), tmp_path / "out", overrides={**QUICK, "epochs": 1, "learning_rate": 1e-9})
    assert lost.devel == 0 and any("train it for more epochs" in note for note in lost.notes)


def test_a_single_file_is_split_and_scored_on_its_own_test_part(start, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 200}) / "train.tsv"
    finetune(data, str(start), tmp_path / "out", overrides=QUICK)
    own = evaluate(str(tmp_path / "out"), data).record()
    parts = [len(datasets.find(data).read(split)) for split in ("train", "devel", "test")]
    assert sum(parts) == 200 and own["data"]["split"] == "test" and own["data"]["documents"] == parts[2]
    other = ner_folder(tmp_path / "other", {"train": 20}, seed=5) / "train.tsv"
    assert evaluate(str(tmp_path / "out"), other).record()["data"]["documents"] == 20


def test_a_model_scores_raw_documents_of_its_type(tagged, tmp_path):
    _, model, _ = tagged
    file = tmp_path / "made.pubtator"
    text = "the patients of aspirin and insulin daily. risk of lung cancer."
    spans = [(16, 23), (28, 35), (51, 62)]
    mentions = "".join(f"7\t{a}\t{b}\t{text[a:b]}\tChemical\tD1\n" for a, b in spans)
    astray = "7\t0\t3\taspirin\tChemical\tD1\n"
    file.write_text(f"7|t|{text[:42]}\n7|a|{text[43:]}\n{mentions}{astray}\n")
    record = evaluate(str(model), file).record()
    assert record["notes"] == ["1 annotations of the data were left out: mentions whose text is not at their offsets."]
    assert record["unit"] == "document" and record["f1"] > 0.7
    assert record["per_type"]["Chemical"]["support"] == 3


def test_types_are_left_out_where_one_side_names_none(tagged, start, tmp_path):
    _, bare, _ = tagged
    text = "the patients of aspirin and lung cancer"
    file = tmp_path / "made.pubtator"
    file.write_text(f"7|t|{text}\n7\t16\t23\taspirin\tDrug\tD1\n7\t28\t39\tlung cancer\tDisease\tD2\n\n")
    record = evaluate(str(bare), file).record()
    assert record["f1"] == 1.0 and "Types are not compared" in record["notes"][-1]
    data = ner_folder(tmp_path / "typed", SIZES, kind="Drug")
    train = (data / "train.tsv").read_text()
    (data / "train.tsv").write_text(train.replace("cancer\tI-Drug", "cancer\tI-Disease").replace(
        "breast\tB-Drug", "breast\tB-Disease").replace("lung\tB-Drug", "lung\tB-Disease"))  # fmt: skip
    finetune(data, str(start), tmp_path / "typed-out", overrides=QUICK)
    assert evaluate(str(tmp_path / "typed-out"), tagged[0]).record()["f1"] > 0.9


def test_types_differ_in_letters_alone_or_are_left_out_where_asked(cli, start, tmp_path):
    data, model = ner_folder(tmp_path / "made", SIZES, kind="DRUG"), tmp_path / "tagger"
    finetune(data, str(start), model, overrides=QUICK)
    file = tmp_path / "made.pubtator"
    file.write_text(
        "7|t|the patients of aspirin and insulin\n7\t16\t23\taspirin\tDrug\tD1\n7\t28\t35\tinsulin\tDrug\tD2\n\n"
    )
    status, printed, messages = cli("evaluate", file, "--model", model, "--json")
    assert status == 0, messages
    assert json.loads(printed)["f1"] == 1.0 and list(json.loads(printed)["per_type"]) == ["Drug"]
    file.write_text(file.read_text().replace("\tDrug", "\tSpecificDrug", 1).replace("\tDrug", "\tModifier"))
    status, _, messages = cli("evaluate", file, "--model", model)
    assert status == 2 and "(untyped)" in messages
    status, printed, messages = cli("evaluate", file, "--model", model, "--untyped", "--json")
    assert status == 0, messages
    assert json.loads(printed)["f1"] == 1.0 and "Types are not compared" in json.loads(printed)["notes"][-1]
    assert json.loads(printed)["protocol"] == "word, untyped"
    assert "f1 (word, untyped)" in (model / "README.md").read_text()


def test_the_published_protocol_and_the_mistakes_are_shown(cli, tagged):
    data, model, _ = tagged
    file = data.parent / "odd.tsv"
    file.write_text("the\tO\nxyz\tB\n")
    words, pieces = (
        json.loads(cli("evaluate", file, "--model", model, "--protocol", name, "--json")[1])
        for name in ("word", "published")
    )
    assert pieces["protocol"] == "published" and "word pieces" in pieces["notes"][0]
    # A mention of three pieces is three mentions there, each `B` on its own.
    assert [sum(right + missed for right, _, missed in found["units"]) for found in (words, pieces)] == [1, 3]
    file.write_text("the\tB\npatients\tI\n")
    _, shown, _ = cli("evaluate", file, "--model", model, "--mistakes", "3")
    assert "missed" in shown and "gold: the patients" in shown


def test_what_a_model_was_trained_on_is_said_and_never_calibrates(cli, capsys, start, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 24, "devel": 24, "test": 10}, kind="Drug")
    single = ner_folder(tmp_path / "alone", {"train": 60}, kind="Drug") / "train.tsv"
    quick, out, of_single = QUICK | {"epochs": 2}, tmp_path / "out", tmp_path / "of-single"
    finetune(data, str(start), out, overrides=quick, train_on="train+devel")
    finetune(single, str(start), of_single, overrides=quick, train_on="train+devel")
    file, part = "The model was trained on this very file.", "The model was trained on this very part of the file."
    for model, what, split, note in (
        (out, data, "devel", file), (out, data, "train", file), (out, data / "devel.tsv", None, file),
        (out, data, "test", None), (of_single, single, "devel", part), (of_single, single, None, None),
    ):  # fmt: skip
        notes = evaluate(model, what, split=split).outcome.notes
        assert [one for one in notes if "trained on" in one] == ([note] if note else []), (what, split)
        if note:
            with pytest.raises(UserError, match="calibrate it on data that it has not seen"):
                evaluate(model, what, split=split, calibrate=True)
    capsys.readouterr()  # the progress of the training
    one_sentence(cli("evaluate", data, "--model", out, "--calibrate"), "made, devel", "(option --calibrate)")
    one_sentence(cli("evaluate", single, "--model", of_single, "--calibrate"), "has not seen")
    assert not (out / "calibration.json").exists() and not (of_single / "calibration.json").exists()


def test_scores_are_calibrated_on_devel_where_no_split_is_named(cli, start, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 40, "devel": 24, "test": 10}, kind="Drug")
    finetune(data, str(start), tmp_path / "out", overrides=QUICK)
    status, printed, _ = cli("evaluate", data, "--model", tmp_path / "out", "--calibrate")
    assert status == 0 and "data made, devel: 24 documents" in printed
    (data / "devel.tsv").unlink()
    refused = cli("evaluate", data, "--model", tmp_path / "out", "--calibrate")
    one_sentence(refused, "made: it has no devel split to fit scores to", "(option --split)")


def test_gold_beside_the_data_and_a_submission_with_every_question(cli, start, tmp_path):
    data = qa_folder(tmp_path / "made", SIZES)
    model, gold, sent = tmp_path / "reader", tmp_path / "elsewhere.json", tmp_path / "sent.json"
    finetune(data, str(start), model, overrides=QUICK | {"epochs": 1})
    asked = json.loads((data / "golden.json").read_text())["questions"]
    more = {"id": "f" * 24, "type": "factoid", "body": "no snippet?", "exact_answer": [["aspirin"]]}
    gold.write_text(json.dumps({"questions": [*asked, more]}))
    (data / "golden.json").unlink()
    status, printed, messages = cli(
        "evaluate", data / "test.json", "--model", model, "--gold", gold, "--write-predictions", sent, "--json"
    )
    assert status == 0, messages
    assert len(json.loads(printed)["units"]) == len(asked) + 1
    entries = {one["id"]: one["exact_answer"] for one in json.loads(sent.read_text())["questions"]}
    assert list(entries) == [one["id"] for one in [*asked, more]] and entries["f" * 24] == []


def test_a_model_whose_file_holds_fused_weights_is_resumed_to_the_same_weights(tokenizer_folder, tmp_path):
    start = shutil.copytree(tokenizer_folder, tmp_path / "start")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = NomicBertConfig(vocab_size=len(load_tokenizer(start)), max_position_embeddings=64, pad_token_id=0, **sizes)
    AutoModelForTokenClassification.from_config(config).save_pretrained(start)
    assert any("Wqkv" in name for name in load_file(start / "model.safetensors"))
    data = ner_folder(tmp_path / "made", {"train": 40, "devel": 10, "test": 4})
    quick = {**QUICK, "epochs": 2}
    finetune(data, str(start), tmp_path / "whole", overrides=quick)
    with stopping_at(4):
        assert finetune(data, str(start), tmp_path / "resumed", overrides=quick).state == "stopped"
    assert finetune(data, str(start), tmp_path / "resumed", overrides=quick, resume=True).state == "finished"
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_ctrl_c_in_a_search_says_how_to_resume_and_the_rest_is_done_then(cli, start, tmp_path):
    data, out = ner_folder(tmp_path / "made", {"train": 40, "devel": 10, "test": 4}), tmp_path / "out"
    sets = ["--set", "epochs=2", "--set", "max_length=32", "--set", "batch_size=8"]
    line = ["finetune", data, "--model", start, "--out", out, *sets, "--search"]
    with stopping_at(1, signal.SIGINT, nth=2) as stderr:  # in the second trial
        assert cli(*line)[0] == 130
    messages = stderr.getvalue()
    assert "--search" in messages and "--resume" in messages and "Traceback" not in messages, messages
    done = [path.parent for path in out.glob("search/*/run.json") if json.loads(path.read_text())["result"]]
    assert len(done) == 1
    kept = {folder / "model.safetensors": (folder / "model.safetensors").stat().st_mtime_ns for folder in done}
    assert cli(*line, "--resume")[0] == 0
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    card = (out / "README.md").read_text()
    assert "# out" in card and "best by devel of 3 runs" in card and "chose learning rate" in card


@pytest.mark.slow
def test_a_search_that_was_refused_does_not_block_its_folder(start, tmp_path):
    data, out = ner_folder(tmp_path / "made", {"train": 8, "devel": 4, "test": 4}), tmp_path / "out"
    shutil.copytree(start, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    given = {"overrides": {"epochs": 1, "max_length": 32}}
    with pytest.raises(UserError, match="its weights cannot be read"):
        grid_search.search(data, str(tmp_path / "damaged"), out, **given)
    whole = (out / "search.json").read_text()
    for text in ("{", "5", '{"search": {}}', "[" * 9999):
        (out / "search.json").write_text(text)
        with pytest.raises(UserError, match=r"search\.json is not a record of a search: choose another output folder"):
            grid_search.search(data, str(start), out, **given)
    (out / "search.json").write_text(whole)
    assert grid_search.search(data, str(start), out, **given).state == "finished"


def test_searching_tries_the_grid_and_keeps_the_best(cli, start, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 24, "devel": 10, "test": 4})
    sets = ["--set", "epochs=1", "--set", "max_length=32", "--set", "batch_size=8", "--search", "--json"]
    status, printed, _ = cli("finetune", data, "--model", start, "--out", tmp_path / "out", *sets)
    trials = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert len(trials) == 3 and len({trial["learning_rate"] for trial in trials}) == 3
    assert status == 0 and json.loads(printed)["devel"] == max(trial["devel"] for trial in trials)
    (kept,) = [trial for trial in trials if trial["kept"]]
    run = json.loads((tmp_path / "out" / "run.json").read_text())["identity"]
    assert kept["learning_rate"] == run["settings"]["learning_rate"] and json.loads(printed)["trials"] == trials
    assert json.loads(printed)["seed"] == 0 and json.loads(printed)["data"] == run["data"]
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert evaluate(str(tmp_path / "out"), data).seed == 0
    status, printed, _ = cli("finetune", data, "--model", start, "--out", tmp_path / "out", *sets)
    assert status == 0 and json.loads(printed)["state"] == "already finished"
    status, _, messages = cli("finetune", data, "--model", start, "--out", data, *sets)
    assert status == 2 and "is read as data" in messages and not (data / "model.safetensors").exists()


def test_predictions_written_are_scored_the_same_from_the_file(cli, tagged, start, tmp_path):
    cases = [(tagged[0], tagged[1], "p.tsv")]
    for make, name in ((relation_folder, "p.txt"), (qa_folder, "p.json")):
        data, out = make(tmp_path / make.__name__, SIZES), tmp_path / f"{make.__name__}-out"
        finetune(data, str(start), out, overrides=QUICK | {"epochs": 2})
        cases.append((data, out, name))
    for data, model, name in cases:
        file, found = tmp_path / name, []
        for more in ((data, "--model", model, "--write-predictions", file), (data, "--predictions", file)):
            status, printed, messages = cli("evaluate", *more, "--json")
            assert status == 0, messages
            found.append(json.loads(printed))
        own, read = found
        assert own["units"] == read["units"] and own["interval"] == read["interval"], name


@pytest.mark.skipif(not SHARED.exists(), reason="real system output is not here (../shared/data)")
@pytest.mark.parametrize(
    ("predicted", "data", "expected"),
    [
        ("ner_predictions/s800_test_conlleval/NER_result_conll.txt", "ner/s800", {"f1": 0.7150}),
        ("re_predictions/GAD_fold1/test_results.tsv", "re/GAD/1", {"f1": 0.7582608695652174}),
        (
            "pubtator/BC5CDR/eval_sample/system/CDR_sample.test.CID.BioC.xml",
            "pubtator/BC5CDR/eval_sample/gold/CDR_sample.gold.PubTator",
            {"f1": 2 * 758 / (2 * 758 + 113 + 176)},
        ),
        (
            "qa/BioASQ_predictions/4B1_systemA/BioASQform_BioASQ-answer.json",
            "qa/BioASQ/4B1_golden.json",
            {"strict_accuracy": 0.28205128205128205, "mrr": 0.3653846153846154},
        ),
        (
            "qa/BioASQ_12b/bioasq_task_12b_phase_b_batch_1_mibi_rag_abstract.json",
            "qa/BioASQ_12b/12B1_golden.json",
            {"strict_accuracy": 0.047619047619047616, "lenient_accuracy": 0.047619047619047616},
        ),
    ],
)
def test_official_scores_come_out_of_the_command_line(cli, predicted, data, expected):
    status, printed, messages = cli("evaluate", SHARED / data, "--predictions", SHARED / predicted, "--json")
    assert status == 0, messages
    record = json.loads(printed)
    for name, value in expected.items():
        assert record[name] == pytest.approx(value, abs=5e-5 if value == 0.7150 else 1e-12)


def test_labels_in_another_order_than_they_were_trained_in_are_refused(cli, tagged, tmp_path):
    data, model, _ = tagged
    swapped = shutil.copytree(model, tmp_path / "swapped")
    config = json.loads((swapped / "config.json").read_text())
    config["id2label"] = {"0": "I-Thing", "1": "B-Thing", "2": "O"}
    config["label2id"] = {"I-Thing": 0, "B-Thing": 1, "O": 2}
    (swapped / "config.json").write_text(json.dumps(config))
    one_sentence(cli("evaluate", data, "--model", swapped), "another order", "B, I, O: put it back")
    # Renamed, they keep their order.
    config["id2label"] = {"0": "B-Object", "1": "I-Object", "2": "O"}
    config["label2id"] = {"B-Object": 0, "I-Object": 1, "O": 2}
    (swapped / "config.json").write_text(json.dumps(config))
    assert loading.find(swapped).config.id2label[0] == "B-Object"
    config["id2label"], config["label2id"] = {"0": 0, "1": 1, "2": 2}, {"0": 0, "1": 1, "2": 2}
    (swapped / "config.json").write_text(json.dumps(config))
    assert loading.find(swapped).config.num_labels == 3
