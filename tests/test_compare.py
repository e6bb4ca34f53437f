"""`compare` end to end: runs real models, resumes, reports what failed, writes the report."""

import json
import shutil
import signal
from html import escape
from pathlib import Path

import pytest
import yaml

from compactbio.comparison import report, runs
from compactbio.comparison.suite import load as load_suite
from compactbio.comparison.table import build
from compactbio.deploy import profile
from compactbio.errors import UserError
from compactbio.files import read_json
from compactbio.processes import processor
from compactbio.training import run_folder
from compactbio.training.finetuning import collect, finetune
from conftest import one_sentence
from interruptions import stopping_at
from task_data import ner_folder, relation_folder, start_folder, texts_file

SIZES = {"train": 60, "devel": 8, "test": 10}


@pytest.fixture(scope="module")
def suite(tokenizer_folder, tmp_path_factory):
    """A suite of two models, a NER set with two seeds, and a data set of two folds."""
    place = tmp_path_factory.mktemp("suite")
    for name, layers in (("large", 2), ("small", 1)):
        start_folder(place / name, tokenizer_folder, layers)
    ner_folder(place / "tags", SIZES)
    for fold in ("1", "2"):
        relation_folder(place / "pairs" / fold, SIZES, seed=int(fold))
    content = {
        "models": {"large": "large", "small": "small"},
        "data": {"tags": {"path": "tags", "seeds": [0, 1]}, "pairs": "pairs"},
        "settings": {"epochs": 3, "batch_size": 8, "max_length": 32, "learning_rate": 5e-3},
        "teacher": "large",
    }
    path = place / "suite.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def no_fresh_processes(monkeypatch):
    """Models are not loaded in processes of their own to measure their memory, as the first test has it done."""
    monkeypatch.setattr(profile, "peak_memory", lambda *_: 1_000_000)


def test_texts_without_anything_for_the_task_are_refused_before_the_teachers_train(suite, tmp_path):
    content = yaml.safe_load(suite.read_text())
    place, texts = suite.parent, texts_file(tmp_path / "texts.txt", 30)
    content["models"] = {
        "large": str(place / "large"),
        "taught": {"path": str(place / "small"), "teachers": ["large"]},
    }
    content["data"] = {"pairs": {"path": str(place / "pairs"), "unlabelled": str(texts)}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match=r"nothing to learn from \(30 documents read: .* with a marked pair"):
        runs.check(load_suite(tmp_path / "suite.yaml"), tmp_path / "table")


def test_a_student_of_a_suite_is_the_one_that_finetune_makes_with_the_teacher_of_its_data_and_seed(
    suite, no_fresh_processes, tmp_path
):
    content = yaml.safe_load(suite.read_text())
    place, texts = suite.parent, texts_file(tmp_path / "texts.txt", 30)
    content["models"] = {
        "large": str(place / "large"),
        "taught": {"path": str(place / "small"), "teachers": ["large"]},
    }
    content["data"] = {
        "tags": {"path": str(place / "tags"), "unlabelled": str(texts), "settings": {"sample": 20}, "seeds": [0, 1]},
        "pairs": str(place / "pairs"),
    }
    content["settings"]["distil_weight"] = 0.8
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    one, out, said = load_suite(tmp_path / "suite.yaml"), tmp_path / "table", []
    runs.check(one, out)
    found = runs.run_suite(one, out, report=said.append)
    assert [run.state for run in found] == ["done"] * 8, said
    # Of each seed teachers come first.
    assert [line.split(", ")[1] for line in said] == ["large"] * 3 + ["taught"] * 3 + ["large", "taught"]
    common = {key: value for key, value in content["settings"].items() if key != "distil_weight"}
    for planned in runs._planned(one, out):
        if planned.model == "large":
            assert run_folder.record(planned.trained)["identity"]["teachers"] is None
            continue
        (teacher,) = planned.teachers.values()
        assert teacher.parent.name == planned.folder.name
        sampled = {"sample": 20} if planned.name == "tags" else {}
        made = finetune(
            runs._place(planned.data, planned.fold),
            place / "small",
            tmp_path / planned.name / planned.folder.name,
            overrides={**common, **sampled, "distil_weight": 0.8, "seed": planned.seed},
            teachers=[teacher],
            unlabelled=[texts] if planned.name == "tags" else [],
            name=planned.name,
        )
        assert (made.unlabelled.get("rows", 0) > 0) == (planned.name == "tags"), made.unlabelled
        by_hand, by_suite = Path(made.out, "model.safetensors"), planned.trained / "model.safetensors"
        assert by_hand.read_bytes() == by_suite.read_bytes()
    runs.check(one, out)
    assert [run.main for run in runs.kept_runs(one, out)] == [run.main for run in found]
    table = build(found, "large", "large")
    assert table.row("taught", "tags").share is not None
    report.write("suite", table, found, {}, tmp_path / "report")
    sentence = "Taught the task by other models, as fine-tuned on the same data with the same seed: taught by large."
    assert sentence in (tmp_path / "report" / "table.md").read_text()
    assert "taught by large" in (tmp_path / "report" / "index.html").read_text()
    assert "taught is taught the task by large." in (tmp_path / "report" / "table.tex").read_text()

    # Files and folders may be renamed; other texts, or a test split that is left out of them, are another run.
    content["models"]["taught"]["path"] = str(shutil.copytree(place / "small", tmp_path / "renamed"))
    content["data"]["tags"]["unlabelled"] = str(texts := texts.rename(tmp_path / "other.txt"))
    content["data"]["tags"]["path"] = str(shutil.copytree(place / "tags", tmp_path / "moved"))
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    one = load_suite(tmp_path / "suite.yaml")
    runs.check(one, out)
    again = runs.run_suite(one, out, report=said.append)
    assert [(run.state, run.scored) for run in again] == [("done", run.scored) for run in found]
    test = tmp_path / "moved" / "test.tsv"
    before = test.read_text()
    test.write_text(before + "\npatients\tO\n")
    with pytest.raises(UserError, match="a run of taught on tags with other test split than the suite says"):
        runs.check(one, out)
    test.write_text(before)
    texts.write_text(texts.read_text() + "patients and group\n")
    with pytest.raises(UserError, match="a run of taught on tags with other unlabelled texts than the suite says"):
        runs.check(one, out)
    content["data"] = {"pairs": content["data"]["pairs"]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    one = load_suite(tmp_path / "suite.yaml")
    # Without its teacher, or with another, a student is another run.
    for models in ({"taught": str(place / "small")}, {"other": str(place / "small"), "taught": "other"}):
        if models["taught"] == "other":
            models["taught"] = {"path": str(place / "small"), "teachers": ["other"]}
        changed = {**content, "models": {"large": str(place / "large"), **models}, "settings": common}
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
        runs.check(load_suite(tmp_path / "changed.yaml"), out)
        kept = runs.kept_runs(load_suite(tmp_path / "changed.yaml"), out)
        assert {run.state for run in kept if run.model == "taught"} == {"not run"}
    (planned, *_) = (planned for planned in runs._planned(one, out) if planned.teachers)
    (teacher,) = planned.teachers.values()
    assert "It learnt from large beside the labels" in (planned.trained / "README.md").read_text()
    kept = read_json(teacher / "run.json")
    # A student outlives its teacher; without a score of its own it waits for it.
    (teacher / "run.json").write_text(json.dumps({**kept, "result": None}))
    assert runs._run(one, planned, "auto", None).state == "done"
    (planned.folder / "evaluation.json").unlink()
    lacking = {"not trained": {**kept, "result": None}, "damaged (model.safetensors is missing): delete its run": kept}
    for why, record in lacking.items():
        (teacher / "run.json").write_text(json.dumps(record))
        if record is kept:
            (teacher / "model.safetensors").rename(tmp_path / "weights")
        failed = runs._run(one, planned, "auto", None)
        assert (failed.state, failed.error) == ("failed", f"its teacher large is {why}")
        # The reason is of the moment: it is not kept.
        assert next(run for run in runs.kept_runs(one, out) if run.teachers).state == "not run"
    (tmp_path / "weights").rename(teacher / "model.safetensors")
    # The teacher was made again, and is another one.
    changed = read_json(teacher / "config.json") | {"initializer_range": 0.5}
    written = (teacher / "config.json").read_text()
    (teacher / "config.json").write_text(json.dumps(changed))
    failed = runs._run(one, planned, "auto", None)
    assert failed.error == "it was taught by others than large as trained now: delete " + "/".join(
        planned.folder.parts[-2:]
    )
    with pytest.raises(UserError, match="a run of taught on pairs with other teachers than the suite says"):
        runs.check(one, out)
    (teacher / "config.json").write_text(written)
    assert runs._run(one, planned, "auto", None).state == "done"
    record = read_json(planned.trained / "run.json")
    for wrong in (3, [3]):
        damaged = record | {"identity": record["identity"] | {"teachers": wrong}}
        (planned.trained / "run.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=r"run\.json is not a record of fine-tuning: delete"):
            runs.check(one, out)


@pytest.mark.slow
def test_a_suite_is_run_reported_and_not_run_again(cli, suite, tmp_path):
    out = tmp_path / "table"
    status, printed, messages = cli("compare", suite, "--out", out)
    assert status == 0, messages
    assert "[8/8]" in messages and "failed" not in messages
    table = json.loads((out / "table.json").read_text())
    rows = {(row["model"], row["data"]): row for row in table["rows"]}
    assert rows["small", "tags"]["runs"] == 2 and rows["small", "pairs"]["runs"] == 2
    assert rows["small", "tags"]["test"] is not None
    small, large = rows["small", "tags"], rows["large", "tags"]
    assert large["mean"] > 0.5 and small["share"] == pytest.approx(small["mean"] / large["mean"])
    page = (out / "index.html").read_text()
    assert all(name in page for name in ("large", "small", "tags", "pairs")) and "http" not in page.split("<svg")[0]
    assert (out / "table.tex").read_text().count("toprule") == 1
    assert "Against large, paired bootstrap" in printed and "Share of the score of large" in printed
    scored = next(line for line in printed.splitlines() if line.startswith("| tags | F1 | word | test"))
    assert "0, 1" in scored and rows and "10 sentences" in scored
    assert table["errors"].keys() == {"tags", "pairs"} and "word protocol" in (out / "table.tex").read_text()
    assert "large" in printed and str(suite.parent) not in (out / "table.json").read_text() + page
    weights = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/model.safetensors")}
    assert len(weights) == 8
    status, again, _ = cli("compare", suite, "--out", out)
    assert status == 0 and again == printed
    assert weights == {path: path.stat().st_mtime_ns for path in out.glob("runs/**/model.safetensors")}


@pytest.mark.slow
def test_a_failing_run_is_reported_and_tried_again(cli, suite, no_fresh_processes, tmp_path):
    place = tmp_path / "place"
    shutil.copytree(suite.parent, place)
    kept = (place / "tags" / "train.tsv").read_text()
    (place / "tags" / "train.tsv").write_text(kept + "\nword\tQ\n")
    content = yaml.safe_load(suite.read_text())
    content["data"] = {"tags": {"path": "tags"}, "pairs": {"path": "pairs/1"}}
    (place / "suite.yaml").write_text(yaml.safe_dump(content))
    status, printed, messages = cli("compare", place / "suite.yaml", "--out", tmp_path / "table", "--workers", 2)
    assert status == 0 and messages.count("failed: ") == 2 and "train.tsv" in printed
    assert messages.count(": begins") == 4
    # Runs side by side are those that one after the other are.
    (made,) = (tmp_path / "table").glob("runs/pairs-large-*/*/evaluation.json")
    by_worker = json.loads(made.read_text())
    shutil.rmtree(made.parent)
    (place / "tags" / "train.tsv").write_text(kept)
    status, printed, messages = cli("compare", place / "suite.yaml", "--out", tmp_path / "table")
    assert status == 0 and "failed" not in messages + printed
    again = json.loads(made.read_text())
    assert by_worker["units"] == again["units"] and by_worker["mistakes"] == again["mistakes"]


def test_a_model_that_cannot_be_read_is_reported_and_its_speed_named_as_not_measured(
    cli, suite, no_fresh_processes, tmp_path
):
    shutil.copytree(suite.parent / "small", tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    content = yaml.safe_load(suite.read_text())
    content |= {"models": {"small": str(suite.parent / "small"), "damaged": str(tmp_path / "damaged")}}
    content |= {"teacher": "small", "data": {"pairs": str(suite.parent / "pairs" / "1")}}
    content["settings"]["epochs"] = 1
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    status, printed, messages = cli("compare", tmp_path / "suite.yaml", "--out", tmp_path / "table")
    assert status == 0, messages
    assert "damaged: its speed is not measured, as none of its runs is done" in messages and "failed" in printed
    page = (tmp_path / "table" / "index.html").read_text()
    assert "Not measured: damaged." in page and "its weights cannot be read" in page
    assert f'<p class="note">Measured on {escape(processor())}, ' in page and "batches of 8 sentences of" in page
    assert json.loads((tmp_path / "table" / "table.json").read_text())["profiles"].keys() == {"small"}
    # Figures of an older version, which do not say what they were measured on, are measured again.
    kept = json.loads((profiles := tmp_path / "table" / "profiles.json").read_text())
    del kept["profiles"]["small"]["measured"]
    profiles.write_text(json.dumps(kept))
    # The run that was refused blocks none of the mended model.
    shutil.copy(suite.parent / "small" / "model.safetensors", weights)
    status, _, messages = cli("compare", tmp_path / "suite.yaml", "--out", tmp_path / "table")
    assert status == 0 and "failed" not in messages, messages


def test_the_score_of_a_model_that_is_damaged_since_is_kept_and_that_is_said(suite, tmp_path):
    content = yaml.safe_load(suite.read_text())
    content |= {"models": {"small": str(suite.parent / "small")}, "teacher": "small"}
    content |= {"data": {"pairs": str(suite.parent / "pairs" / "1")}, "settings": {"epochs": 1, "max_length": 32}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    one, out = load_suite(tmp_path / "suite.yaml"), tmp_path / "table"
    (before,) = runs.run_suite(one, out, report=lambda _: None)
    (weights,) = out.glob("runs/*/seed-0/model/model.safetensors")
    whole = weights.read_bytes()
    weights.unlink()
    note = "The score of small, seed 0, is kept, but its model is damaged (model.safetensors is missing)."
    for found in (*runs.run_suite(one, out, report=lambda _: None), *runs.kept_runs(one, out)):
        assert (found.state, found.main, found.scored["notes"][-1]) == ("done", before.main, note)
    assert build([found], "small", None).columns[0].notes[-1] == note
    weights.write_bytes(whole)
    assert runs.kept_runs(one, out) == [before]
    record = weights.with_name("run.json")
    made = json.loads(record.read_text())
    record.unlink()
    note = "The score of small, seed 0, is kept, but the record of its training (run.json) is missing."
    for found in (*runs.run_suite(one, out, report=lambda _: None), *runs.kept_runs(one, out)):
        assert (found.state, found.main, found.scored["notes"][-1]) == ("done", before.main, note)
    for identity in ({}, {**made["identity"], "model": None}):
        record.write_text(json.dumps({**made, "identity": identity}))
        with pytest.raises(
            UserError, match=r"run\.json is not a record of fine-tuning: delete .*seed-0 to run it again"
        ):
            runs.check(one, out)
    record.write_text(json.dumps(made))
    runs.check(one, out)
    # An evaluation that lacks something is made again.
    scored = weights.parents[1] / "evaluation.json"
    whole_evaluation = json.loads(scored.read_text())
    lacking = [json.dumps({**whole_evaluation, **less}) for less in ({"data": None}, {"model": 3}, {"units": None})]
    for text in (*lacking, "[" * 9999):
        scored.write_text(text)
        assert [run.state for run in runs.kept_runs(one, out)] == ["not run"]
        assert runs.run_suite(one, out, report=lambda _: None) == [before]
    scored.unlink()
    (scored.parent / "failure.txt").write_bytes(b"caf\xe9\n\nlines")
    assert [(run.state, run.error) for run in runs.kept_runs(one, out)] == [("failed", "caf\ufffd")]


def test_a_file_in_the_place_of_a_run_is_one_sentence(cli, suite, tmp_path):
    content = yaml.safe_load(suite.read_text())
    content |= {"models": {"small": str(suite.parent / "small")}, "teacher": "small"}
    content["data"] = {"pairs": str(suite.parent / "pairs" / "1")}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    (planned,) = runs._planned(load_suite(tmp_path / "suite.yaml"), tmp_path / "table")
    planned.folder.parent.mkdir(parents=True)
    planned.folder.write_text("a file")
    status, printed, messages = cli("compare", tmp_path / "suite.yaml", "--out", tmp_path / "table")
    assert (status, printed) == (2, "") and "Traceback" not in messages
    assert messages.splitlines()[-1].startswith(f"{planned.folder}: this path is a file or a link that leads nowhere")


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_run_and_says_how_to_resume(cli, suite, no_fresh_processes, tmp_path):
    out = tmp_path / "table"
    with stopping_at(1, signal.SIGINT, nth=3) as stderr:  # in the third run
        status, printed, _ = cli("compare", suite, "--out", out)
    messages = stderr.getvalue()
    assert (
        (status, printed) == (130, "") and "Resume with: compactbio compare" in messages and "Traceback" not in messages
    )
    done = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/evaluation.json")}
    assert len(done) == 2
    status, _, _ = cli("compare", suite, "--out", out)
    assert status == 0 and all(path.stat().st_mtime_ns == at for path, at in done.items())
    assert len(list(out.glob("runs/**/evaluation.json"))) == 8


def test_a_worker_that_was_asked_to_stop_begins_nothing_more(monkeypatch):
    begun = []

    def run(_, planned, *__):
        begun.append(planned)
        raise runs.Stopped

    monkeypatch.setattr(runs, "_run", run)
    do = runs._start(0, None, "fp32", None, runs._Shares("cpu", 1, ()))
    for planned in ("one", "two"):
        with pytest.raises(runs.Stopped):
            do(planned)
    assert begun == ["one"]


def test_an_error_names_no_option_that_the_command_does_not_have(cli, suite, tmp_path):
    other = tmp_path / "suite.yaml"
    other.write_text(
        f"models: {{a: {suite.parent / 'small'}}}\ndata: {{x: {{path: {suite.parent / 'tags'}, format: docx}}}}\n"
    )
    failed = cli("compare", other, "--out", tmp_path / "out")
    one_sentence(failed, "'docx' is not a format")
    assert "option" not in failed[2]


def test_a_run_of_another_tokenizer_is_refused_and_old_records_name_none(suite, tokenizer_folder, tmp_path):
    model = start_folder(tmp_path / "small", tokenizer_folder, 1)
    content = {"models": {"small": str(model)}, "data": {"tags": str(suite.parent / "tags")}, "seeds": [0]}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(content | {"settings": {"epochs": 1, "max_length": 32}}))
    one, out = load_suite(tmp_path / "one.yaml"), tmp_path / "table"
    (planned,) = runs._planned(one, out)
    made = collect(suite.parent / "tags", model, name="tags", overrides={"epochs": 1, "max_length": 32})
    planned.trained.mkdir(parents=True)
    (planned.trained / "run.json").write_text(json.dumps({"identity": made.record(), "result": {}}))
    runs.check(one, out)
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    with pytest.raises(UserError, match="holds a run of small on tags with other tokenizer than the suite says"):
        runs.check(one, out)
    identity = {key: value for key, value in made.record().items() if key != "tokenizer"}
    (planned.trained / "run.json").write_text(json.dumps({"identity": identity, "result": {}}))
    runs.check(one, out)


def test_a_file_that_a_fold_lacks_is_looked_for_in_the_fold(suite, tmp_path):
    content = yaml.safe_load(suite.read_text())
    content = {**content, "models": {"large": str(suite.parent / "large")}, "data": {"pairs": str(tmp_path / "pairs")}}
    for fold in ("1", "2"):
        relation_folder(tmp_path / "pairs" / fold, SIZES)
    (tmp_path / "pairs" / "2" / "test.tsv").rename(tmp_path / "test.tsv")
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"pairs: there is no test file in .*pairs/2; a comparison needs both"):
        runs.check(load_suite(tmp_path / "suite.yaml"), tmp_path / "out")
    (tmp_path / "test.tsv").rename(tmp_path / "pairs" / "2" / "test.tsv")
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({**content, "train_on": "train+devel"}))
    with pytest.raises(UserError, match=r"there is no devel file in .*pairs/1"):
        runs.check(load_suite(tmp_path / "suite.yaml"), tmp_path / "out")


def test_what_no_run_could_use_is_refused_before_the_first(cli, suite, tmp_path):
    for setting, value in (("distil_weight", 0.5), ("sample", 5)):
        content = yaml.safe_load(suite.read_text())
        content["settings"][setting] = value
        changed = suite.with_name(f"{setting}.yaml")
        changed.write_text(yaml.safe_dump(content))
        one_sentence(cli("compare", changed, "--out", tmp_path / "table"), setting)
    for part in ("models", "data"):
        changed = suite.with_name(f"{part}.yaml")
        changed.write_text(suite.read_text().replace(f"{part}:\n", f"{part}:\n  yes: small\n"))
        one_sentence(cli("compare", changed, "--out", tmp_path / "table"), f"{part}: True is not text as YAML reads it")
    changed.write_text(yaml.safe_dump({**yaml.safe_load(suite.read_text()), "seeds": 3}))
    one_sentence(cli("compare", changed, "--out", tmp_path / "table"), "seeds: input should be a list (got 3)")
    one_sentence(cli("compare", suite, "--out", tmp_path / "new", "--report-only"), "nothing was compared")
    one_sentence(cli("compare", suite, "--out", suite.parent / "tags" / "new"), "which is read as data: choose a place")
    assert not (tmp_path / "new").exists()
