"""A checkpoint is whole or it is refused by name; a run resumes from the newest whole one and says so."""

import asyncio
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback, TrainerState

from compactbio import recipes
from compactbio.errors import UserError
from compactbio.training import engine, reporting, run_folder
from compactbio.training.finetuning import finetune
from compactbio.training.pretraining import train
from conftest import SMALL, TINY
from interruptions import stopping_at
from task_data import ner_folder, start_folder

TUNING = {"epochs": 4, "batch_size": 8, "max_length": 32}
FILES = ["config.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"]


def distilled(corpus: Path, teacher: Path, out: Path, **more: bool):
    recipe = recipes.load("tiny-biobert", **{**SMALL, **TINY, "steps": 8, "eval_every": 4, "save_every": 2})
    return train(recipe, corpus, out, teacher=str(teacher), precision="fp32", **more)


def tuned(data: Path, start: Path, out: Path, **more: bool):
    return finetune(data, str(start), out, overrides=TUNING, precision="fp32", **more)


@pytest.fixture(scope="module")
def runs(token_corpus, teacher_folder, tokenizer_folder, tmp_path_factory):
    """For both commands: what runs into a folder, a run that went straight, and one that was stopped late."""
    place = tmp_path_factory.mktemp("runs")
    data = ner_folder(place / "made", {"train": 40, "devel": 8})
    start = start_folder(place / "start", tokenizer_folder)
    works = {
        "train": (lambda out, **more: distilled(token_corpus, teacher_folder, out, **more), 5),
        "finetune": (lambda out, **more: tuned(data, start, out, **more), 12),
    }
    for name, (work, step) in works.items():
        work(place / name / "straight")
        with stopping_at(step):
            assert work(place / name / "stopped").state == "stopped"
    return place, {name: work for name, (work, _) in works.items()}


def saved(out: Path) -> list[str]:
    """The checkpoints of a run, oldest first."""
    return [path.name for path in sorted((out / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))]


def flip(content: bytes) -> bytes:
    """One bit of the last quarter changed."""
    place = len(content) * 3 // 4
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "is missing": None,
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "changed": flip,
    "of another kind": lambda content: b"\x80\x04no state at all",
}


def damage(file: Path, how: str) -> None:
    """Damage a file, the record of the checkpoint left as it is."""
    change = DAMAGES[how]
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))


def losses(out: Path) -> list[tuple[int, float, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["learning_rate"]) for line in lines if "loss" in line]


def identity(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())["identity"]


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_each_file_of_a_checkpoint_that_is_damaged_is_named_and_the_older_one_taken(name, runs, tmp_path, capsys):
    place, _ = runs
    stopped = place / name / "stopped"
    older, newest = saved(stopped)
    files = [*FILES, *(["projection.safetensors"] if name == "train" else [])]
    assert {path.name for path in (stopped / "checkpoints" / newest).iterdir()} >= set(files)
    for file in [*files, "complete.json"]:
        for how in DAMAGES:
            out = shutil.copytree(stopped, tmp_path / "out")
            damage(out / "checkpoints" / newest / file, how)
            begun = run_folder.begin(out, identity(out), resume=True)
            assert begun.checkpoint == out / "checkpoints" / older, (file, how)
            (note,) = begun.notes
            assert newest in note and older in note, (file, how)
            # A record whose own bit is turned lays the fault on another file.
            assert file in note or (file, how) == ("complete.json", "changed")
            assert note in capsys.readouterr().err and json.loads((out / "run.json").read_text())["notes"] == [note]
            shutil.rmtree(out)


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_a_run_resumed_from_the_older_checkpoint_ends_as_a_straight_one_and_says_so(name, runs, tmp_path, capsys):
    place, works = runs
    out = shutil.copytree(place / name / "stopped", tmp_path / "out")
    newest = saved(out)[-1]
    damage(out / "checkpoints" / newest / "optimizer.pt", "is missing")
    result = works[name](out, resume=True)
    (note,) = [one for one in result.notes if "devel" not in one]
    assert "optimizer.pt" in note and newest in note and note in capsys.readouterr().err
    one, other = (load_file(run / "model.safetensors") for run in (place / name / "straight", out))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert losses(out) == losses(place / name / "straight")
    curve = EventAccumulator(str(out / "tensorboard")).Reload().Scalars("loss")
    assert [event.step for event in curve] == [step for step, _, _ in losses(out)]
    assert note in json.loads((out / "run.json").read_text())["result"]["notes"]
    assert note in (out / "README.md").read_text()


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_without_a_complete_checkpoint_a_run_is_refused_in_a_sentence_that_names_each(name, runs, tmp_path):
    place, works = runs
    out = shutil.copytree(place / name / "stopped", tmp_path / "out")
    older, newest = saved(out)
    damage(out / "checkpoints" / older / "rng_state.pth", "empty")
    damage(out / "checkpoints" / newest / "scheduler.pt", "is missing")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as refused:
        works[name](out, resume=True)
    for word in (older, "rng_state.pth", newest, "scheduler.pt", "delete"):
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    shutil.rmtree(out / "checkpoints")
    assert works[name](out, resume=True).state == "finished"


def test_a_checkpoint_of_another_number_of_processes_is_refused_with_both_numbers(runs, tmp_path):
    place, _ = runs
    out = shutil.copytree(place / "train" / "stopped", tmp_path / "out")
    for name in saved(out):
        record = out / "checkpoints" / name / "complete.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "processes": 2}))
    with pytest.raises(UserError, match="saved by 2 processes, not 1"):
        run_folder.begin(out, identity(out), resume=True)


def test_folders_beside_the_checkpoints_are_not_taken_for_one(runs, tmp_path):
    place, _ = runs
    out = shutil.copytree(place / "train" / "stopped", tmp_path / "out")
    newest = out / "checkpoints" / saved(out)[-1]
    for name in (f"{newest.name}.bak", f"{newest.name} (copy)", "checkpoint-", "checkpoint-last", "checkpoint--9"):
        shutil.copytree(newest, newest.with_name(name))
    (newest.parent / "checkpoint-999").write_text("a file")
    begun = run_folder.begin(out, identity(out), resume=True)
    assert begun.checkpoint == newest and begun.notes == ()


def test_a_checkpoint_under_the_number_of_another_step_is_passed_over(runs, tmp_path):
    place, _ = runs
    out = shutil.copytree(place / "train" / "stopped", tmp_path / "out")
    older, newest = (out / "checkpoints" / name for name in saved(out))
    for number in ("7", "9999"):
        shutil.copytree(newest, newest.with_name(f"checkpoint-{number}"))
    begun = run_folder.begin(out, identity(out), resume=True)
    assert begun.checkpoint == newest and len(begun.notes) == 2
    assert begun.notes[0].startswith(f"checkpoint-9999 was passed over (it was saved at step {newest.name[11:]})")
    shutil.rmtree(newest)
    assert run_folder.begin(out, identity(out), resume=True).checkpoint == older


def of_an_earlier_version(checkpoint: Path) -> None:
    """A record that does not say of which run the checkpoint is."""
    record = json.loads((checkpoint / "complete.json").read_text())
    del record["run"]
    (checkpoint / "complete.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_checkpoints_and_the_best_student_of_another_run_are_refused_and_those_of_earlier_versions_taken(
    name, runs, tmp_path
):
    place, _ = runs
    out = shutil.copytree(place / name / "stopped", tmp_path / "out")
    older, newest = (out / "checkpoints" / one for one in saved(out))
    known = identity(out)
    record = json.loads((newest / "complete.json").read_text())
    (newest / "complete.json").write_text(json.dumps({**record, "run": "0" * 64}))
    begun = run_folder.begin(out, known, resume=True)
    assert begun.checkpoint == older and "it was saved by another run" in begun.notes[0]
    # Its own, of a run with another identity, as all its checkpoints are then.
    (out / "run.json").write_text(json.dumps({"identity": {**known, "seed": 1}, "result": None}))
    with pytest.raises(UserError, match=r"best.* saved by another run.*delete"):
        run_folder.begin(out, {**known, "seed": 1}, resume=True)
    shutil.rmtree(out / "checkpoints" / "best")
    with pytest.raises(UserError, match=r"checkpoint-.*saved by another run"):
        run_folder.begin(out, {**known, "seed": 1}, resume=True)
    for checkpoint in (older, newest):
        of_an_earlier_version(checkpoint)
    assert run_folder.begin(out, {**known, "seed": 1}, resume=True).checkpoint == newest


def test_weights_of_another_model_under_a_true_record_are_refused(runs, tmp_path):
    place, works = runs
    out = shutil.copytree(place / "train" / "stopped", tmp_path / "out")
    strange = place / "finetune" / "stopped"
    projection = (out / "checkpoints" / saved(out)[-1] / "projection.safetensors").read_bytes()
    shutil.rmtree(out / "checkpoints")
    [*_, name] = saved(strange)
    shutil.copytree(strange / "checkpoints" / name, out / "checkpoints" / name)
    (out / "checkpoints" / name / "projection.safetensors").write_bytes(projection)
    of_an_earlier_version(out / "checkpoints" / name)
    with pytest.raises(UserError, match="weights of another model"):
        works["train"](out, resume=True)


@pytest.mark.parametrize("file", ["best.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["is missing", "cut off", "changed"])
def test_a_best_student_that_is_damaged_is_named(file, how, runs, tmp_path):
    place, works = runs
    out = shutil.copytree(place / "finetune" / "stopped", tmp_path / "out")
    damage(out / "checkpoints" / "best" / file, how)
    with pytest.raises(UserError, match=f"best.*{file}.*delete"):
        works["finetune"](out, resume=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b'{"identity": 3, "result": null}',
        b"{",
        b'{"identity": {}, "result": 3}',
        b"[" * 9999,
    ],
)
def test_a_record_of_a_run_that_is_damaged_is_a_sentence(content, runs, tmp_path):
    place, _ = runs
    out = shutil.copytree(place / "train" / "stopped", tmp_path / "out")
    known = identity(out)
    (out / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json is not a record of compactbio"):
        run_folder.begin(out, known, resume=True)


@pytest.mark.parametrize(
    "damaged", [b"\xff\xfe{", b'{"note": "caf\xc3', b"\0\0", b"5\n", b'{"loss": 1}\n', b'{"step": null}\n', b"[" * 9999]
)
def test_metrics_are_read_up_to_a_line_that_is_damaged(damaged, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2.5}\n' + damaged + b'\n{"step": 3}\n')
    reporting.Metrics(path).on_train_begin(None, TrainerState(global_step=2), None)
    assert path.read_text() == '{"step": 1, "loss": 2.5}\n'


@pytest.mark.parametrize(
    ("name", "kind"),
    [("checkpoints", "folder"), ("tensorboard", "folder"), ("metrics.jsonl", "file"), ("model.safetensors", "file")],
)
def test_a_file_in_the_place_of_a_folder_or_the_other_way_round_is_named(name, kind, tmp_path):
    run_folder.begin(tmp_path, {"seed": 0}, resume=False)
    (tmp_path / "checkpoints").mkdir()
    place = tmp_path / name
    if kind == "file":
        place.mkdir()
    else:
        shutil.rmtree(place, ignore_errors=True)
        place.write_text("")
    with pytest.raises(UserError, match=f"{name} is not a {kind}, which a run writes there"):
        run_folder.begin(tmp_path, {"seed": 0}, resume=True)


def test_a_finished_run_whose_model_is_damaged_is_not_called_finished(tmp_path):
    def begun():
        return run_folder.begin(tmp_path, {"seed": 0}, resume=False)

    begun()
    config, tokenizer, weights = (tmp_path / name for name in ("config.json", "tokenizer.json", "model.safetensors"))
    config.write_text("{}")
    tokenizer.write_text("{}")
    save_file({"weight": torch.zeros(8)}, weights)
    run_folder.finish(tmp_path, {"seed": 0}, {"step": 1})
    assert begun().result == {"step": 1, "state": "already finished", "out": str(tmp_path)}
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors is cut off or damaged.*delete this folder"):
        begun()
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        begun()
    tokenizer.write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json is missing or damaged"):
        begun()
    for damaged in ("{", "[]", "[" * 9999):
        config.write_text(damaged)
        with pytest.raises(UserError, match=r"config\.json is missing or damaged"):
            begun()


def test_refused_checkpoints_are_not_counted_as_the_newest_when_old_ones_are_deleted(runs, tmp_path):
    place, works = runs
    out = shutil.copytree(place / "finetune" / "stopped", tmp_path / "out")
    newest = out / "checkpoints" / saved(out)[-1]
    for step in (18, 19):
        shutil.copytree(newest, newest.with_name(f"checkpoint-{step}"))
        damage(newest.with_name(f"checkpoint-{step}") / "optimizer.pt", "empty")
    with stopping_at(15):
        assert works["finetune"](out, resume=True).state == "stopped"
    begun = run_folder.begin(out, identity(out), resume=True)
    assert begun.checkpoint is not None and begun.checkpoint.name == "checkpoint-16"


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_a_run_outside_the_main_thread_is_the_same_run_without_handlers_of_signals(name, runs, tmp_path):
    place, works = runs
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(works[name], tmp_path / "thread").result().state == "finished"

    async def notebook() -> tuple[str, str]:
        beside = await asyncio.to_thread(works[name], tmp_path / "beside")
        return beside.state, works[name](tmp_path / "within").state

    assert asyncio.run(notebook()) == ("finished", "finished")
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before
    for out in ("thread", "beside", "within"):
        assert losses(tmp_path / out) == losses(place / name / "straight")


def test_a_run_is_resumed_after_its_teacher_was_renamed(runs, token_corpus, teacher_folder, tmp_path):
    out = shutil.copytree(runs[0] / "train" / "stopped", tmp_path / "out")
    renamed = shutil.copytree(teacher_folder, tmp_path / "renamed")
    assert distilled(token_corpus, renamed, out, resume=True).state == "finished"
    straight = runs[0] / "train" / "straight"
    assert (out / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_a_signal_within_a_step_ends_the_run_after_it(token_corpus, teacher_folder, tmp_path, monkeypatch):
    class Within(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **_):
            if state.global_step == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    fit = engine.fit
    monkeypatch.setattr(
        engine, "fit", lambda *given, **more: fit(*given[:4], [*given[4], Within()], *given[5:], **more)
    )
    found = distilled(token_corpus, teacher_folder, tmp_path / "out")
    assert (found.state, found.step) == ("stopped", 2) and saved(tmp_path / "out")[-1] == "checkpoint-2"


def test_the_precision_of_a_run_is_not_left_to_later_ones(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    assert engine.training_arguments(None, "bf16", max_steps=1).bf16
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ and os.environ["ACCELERATE_DYNAMO_BACKEND"] == "INDUCTOR"
