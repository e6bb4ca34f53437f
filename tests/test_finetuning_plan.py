"""The forecast of a fine-tuning run counts what the run does, and times the real teachers and steps."""

import json

import pytest

from compactbio.errors import UserError
from compactbio.modeling import hardware, runtimes
from compactbio.training import devel
from compactbio.training.devel import Devel
from compactbio.training.finetuning import finetune
from compactbio.training.finetuning_plan import plan
from compactbio.training.soft_labels import Ensemble
from conftest import one_sentence
from task_data import ner_folder, qa_folder, relation_folder, texts_file

QUICK = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
SIZES = {"train": 40, "devel": 10, "test": 6}


@pytest.fixture
def texts(tmp_path):
    return texts_file(tmp_path / "more.txt", 60)


def test_a_plan_counts_what_the_run_does_and_writes_nothing(tagger, start, texts, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    given = {"teachers": [tagger], "unlabelled": [texts], "overrides": {**QUICK, "sample": 30}}
    before = set(runtimes.cache().rglob("*")) | set(tmp_path.rglob("*"))
    found = plan(data, start, **given)
    assert set(runtimes.cache().rglob("*")) | set(tmp_path.rglob("*")) == before
    run = finetune(data, start, tmp_path / "out", **given)
    assert (found.labelled_rows, found.unlabelled_rows, found.steps) == (40, 30, run.step)
    assert found.unlabelled_documents == run.unlabelled["used"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines and found.teachers == ("tagger",) and found.task == "ner"
    parts = (found.teacher_seconds, found.training_seconds, found.devel_seconds)
    assert min(parts) > 0 and found.seconds == pytest.approx(sum(parts))


def test_a_few_documents_are_not_forecast_to_cost_nothing(tagger, start, tmp_path, monkeypatch):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    computed, compute = [], Ensemble._computed
    monkeypatch.setattr(Ensemble, "_computed", lambda self, *given: computed.append(given) or compute(self, *given))
    texts = tmp_path / "few.txt"
    for few in (1, 8):
        texts.write_text("".join(f"a dose of aspirin in group {number}\n" for number in range(few)))
        computed.clear()
        plan(data, start, teachers=[tagger], unlabelled=[texts], overrides=QUICK)
        assert len(computed) == 2  # to load the model, and what is timed


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
@pytest.mark.parametrize("task", ["ner", "qa"])
def test_devel_is_forecast_to_be_scored_as_often_as_it_is(task, epochs, start, tmp_path, monkeypatch):
    data = {"ner": ner_folder, "qa": qa_folder}[task](tmp_path / "made", SIZES)
    given = {"overrides": {**QUICK, "epochs": epochs}}
    monkeypatch.setattr(hardware, "timed", lambda function: 1.0)
    forecast = plan(data, start, **given).devel_seconds
    scored, outcomes, calibrating = [], Devel.outcomes, devel.TorchRuntime
    monkeypatch.setattr(Devel, "outcomes", lambda self, model: scored.append(1) or outcomes(self, model))
    monkeypatch.setattr(devel, "TorchRuntime", lambda *given: scored.append(1) or calibrating(*given))
    finetune(data, start, tmp_path / "out", **given)
    assert len(scored) == forecast


def test_without_teachers_only_training_and_devel_take_time(start, tmp_path):
    found = plan(qa_folder(tmp_path / "made", SIZES), start, overrides=QUICK)
    assert (found.teachers, found.teacher_seconds, found.unlabelled_documents) == ((), 0.0, 0)
    assert found.training_seconds > 0 and found.devel_seconds > 0


def test_the_command_prints_the_plan(tagger, start, texts, tmp_path, cli):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    command = ["finetune", data, "--model", start, "--set", "max_length=32"]
    status, stdout, _ = cli(*command, "--teacher", tagger, "--unlabelled", texts, "--plan")
    assert status == 0 and "teachers     tagger" in stdout and "40 labelled" in stdout and "tokens/s" in stdout
    status, stdout, _ = cli(*command, "--plan", "--json")
    assert status == 0 and json.loads(stdout)["labelled_rows"] == 40
    one_sentence(cli(*command), "--out")
    one_sentence(cli(*command, "--plan", "--resume"), "--resume")


def test_relations_with_unlabelled_texts_and_several_corpora_are_planned(start, tmp_path):
    data = relation_folder(tmp_path / "relation", {"train": 40, "devel": 4, "test": 4})
    teacher = finetune(data, start, tmp_path / "teacher", overrides={**QUICK, "epochs": 1}).out
    texts = tmp_path / "more.txt"
    texts.write_text("patients @GENE$ and dose @DISEASE$ risk .\n" * 3)
    found = plan(data, start, teachers=[teacher], unlabelled=[texts], overrides=QUICK)
    assert (found.task, found.unlabelled_rows) == ("relation", 3)
    drugs = ner_folder(tmp_path / "drugs", SIZES, kind="Drug")
    others = ner_folder(tmp_path / "others", SIZES, seed=1, kind="Other")
    assert plan([drugs, others], start, overrides=QUICK).labelled_rows == 80


def test_what_the_run_refuses_the_plan_refuses(tagger, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    with pytest.raises(UserError, match="Workers and a cluster compute what teachers say"):
        plan(data, start, workers=2, overrides=QUICK)
    with pytest.raises(UserError, match="A cluster computes teachers on unlabelled texts: name some"):
        plan(data, start, teachers=[tagger], on_cluster=True, overrides=QUICK)
