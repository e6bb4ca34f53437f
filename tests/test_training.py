"""Runs end and resume as one uninterrupted run would, and a step is the same however it is divided."""

import json
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from compactbio import corpus, recipes
from compactbio.modeling import build_student, loading
from compactbio.modeling.families import layer_list
from compactbio.training import batches
from compactbio.training.batches import HELDOUT_EPOCH, Masking
from compactbio.training.engine import distil
from compactbio.training.pretraining import train
from conftest import SMALL, TINY, bert, command
from interruptions import killed_at, stopping_at


def recipe(name: str = "distil-biobert", **more):
    """A packaged recipe cut down to a few steps on small models."""
    shape = TINY if name in ("tiny-biobert", "relation-biobert") else {}
    return recipes.load(name, **{**SMALL, **shape, "steps": 8, "eval_every": 4, "save_every": 3, **more})


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The weights of a finished run."""
    return load_file(out / "model.safetensors")


def same(one: dict, two: dict) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", ["distil-biobert", "compact-biobert", "tiny-biobert", "relation-biobert"])
def test_a_run_gives_a_folder_that_others_can_load(name, token_corpus, teacher_folder, tmp_path):
    out = tmp_path / "run"
    result = train(recipe(name), token_corpus, out, teacher=str(teacher_folder))
    model = AutoModelForMaskedLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.num_hidden_layers == 2 and tokenizer.mask_token == "[MASK]"
    logits = model(**tokenizer("aspirin for patients", return_tensors="pt")).logits
    assert torch.isfinite(logits).all()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "loss" in line]
    assert {line["step"] for line in lines if "heldout_loss" in line} == {0, 4, 8}
    terms = [term.value for term in recipe(name).loss]
    for line in trained:
        assert line["loss"] == pytest.approx(sum(line[term] for term in terms), rel=1e-4)
    assert trained[-1]["epoch"] == pytest.approx(8 * 6 / 50)
    assert result.heldout_loss == min(line["heldout_loss"] for line in lines if "heldout_loss" in line)
    assert (result.teacher_heldout_loss is None) == (name == "relation-biobert")  # which reads no prediction of it
    card = (out / "README.md").read_text()
    assert f"{result.heldout_loss:.4f}" in card and corpus.manifest(token_corpus)["fingerprint"] in card
    assert str(tmp_path) not in card and str(teacher_folder) not in card
    assert recipes.load(out / "recipe.yaml") == recipe(name, teacher=teacher_folder.name)
    assert any((out / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("name", "trained"), [("compact-biobert", []), ("relation-biobert", [1]), ("tiny-biobert", [0, 1])]
)
def test_key_biases_are_trained_where_the_loss_reads_keys_themselves(name, trained, token_corpus):
    small, teacher = recipe(name), bert(layers=4)
    student = build_student(small, teacher)
    before = [layer.attention.self.key.bias.clone() for layer in layer_list(student)]
    rows = batches.Masked(corpus.open(token_corpus)["train"], Masking.of(corpus.tokenizer(token_corpus), 0.15, 0))
    distil(student, teacher, batches.Steps(rows, small.batch_size, tokens=64, count=2), small)
    after = [layer.attention.self.key.bias for layer in layer_list(student)]
    assert [i for i in range(2) if not torch.equal(before[i], after[i])] == trained


def test_models_in_memory_are_distilled_without_a_file(token_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    small, teacher = recipe(steps=3), bert(layers=4)
    student = build_student(small, teacher)
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    rows = batches.Masked(
        corpus.open(token_corpus)["train"], Masking.of(corpus.tokenizer(token_corpus), small.mlm_probability, 0)
    )
    outcome = distil(student, teacher, batches.Steps(rows, small.batch_size, tokens=64, count=3), small)
    assert (outcome.step, outcome.stopped) == (3, False) and list(tmp_path.iterdir()) == []
    assert not same(before, student.state_dict())


def test_the_best_by_heldout_loss_is_kept_not_the_last(token_corpus, teacher_folder, tmp_path):
    # So high a rate from step 4 on that the loss rises again.
    out = tmp_path / "run"
    result = train(
        recipe(loss={"mlm": 1.0}, learning_rate=0.5, warmup_steps=0, eval_every=1),
        token_corpus, out, teacher=str(teacher_folder), precision="fp32",
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    held = {line["step"]: line["heldout_loss"] for line in lines if "heldout_loss" in line}
    assert result.best_step == min(held, key=held.get) != 8
    last = load_file(out / "checkpoints" / "checkpoint-8" / "model.safetensors")
    assert not same(weights(out), last)


def test_a_head_that_is_trained_first_leaves_the_encoder_as_it_is(token_corpus, tmp_path):
    start = tmp_path / "start"
    bert(layers=2).bert.save_pretrained(start)
    corpus.tokenizer(token_corpus).save_pretrained(start)

    def run(name: str, *, resume: bool = False, **more):
        small = recipe("bio-distilbert-cased", hidden_dropout=0.1, **more)
        return train(small, token_corpus, tmp_path / name, init=str(start), precision="fp32", resume=resume)

    def weights_at(name: str, step: int) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / name / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")

    (note,) = run("run", head_steps=6, save_every=2).notes
    assert "start has no MLM head, so one was drawn; it is trained alone for the first 6 steps" in note
    assert "head_steps trains it alone" in run("none").notes[0]
    with stopping_at(2) as stopped:
        assert run("resumed", head_steps=6, save_every=2).state == "stopped"
    assert stopped and run("resumed", head_steps=6, save_every=2, resume=True).state == "finished"
    assert same(weights(tmp_path / "run"), weights(tmp_path / "resumed"))
    begun = loading.load(loading.find(start), seed=0)[0].state_dict()
    encoder = [key for key in weights(tmp_path / "run") if key.startswith("bert.")]
    at_6, at_8 = weights_at("run", 6), weights_at("run", 8)
    assert all(torch.equal(at_6[key], begun[key]) for key in encoder)
    head = "cls.predictions.transform.dense.weight"
    assert not torch.equal(begun[head], at_6[head])
    assert not any(torch.equal(at_8[key], begun[key]) for key in encoder if key.endswith("dense.weight"))
    assert not same(weights(tmp_path / "run"), weights(tmp_path / "none"))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(cli, token_corpus, teacher_folder, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    more = ("--steps", "12", "--precision", "fp32", "--set", "hidden_dropout=0.1")
    assert cli(*command(straight, token_corpus, teacher_folder, *more)[3:])[0] == 0
    killed_at(8, command(killed, token_corpus, teacher_folder, *more)[3:])
    assert not (killed / "model.safetensors").exists()
    assert {path.name for path in (killed / "checkpoints").glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    assert cli(*command(killed, token_corpus, teacher_folder, *more, "--resume")[3:])[0] == 0
    assert same(weights(straight), weights(killed))
    steps = [json.loads(line)["step"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 12
    kept = [(line["step"], line.get("loss"), line.get("heldout_loss")) for line in _lines(killed)]
    assert kept == [(line["step"], line.get("loss"), line.get("heldout_loss")) for line in _lines(straight)]


def _lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["distil-biobert", "relation-biobert"])
def test_a_stopped_run_in_bf16_resumes_to_the_same_bits(name, token_corpus, teacher_folder, tmp_path):
    # Few steps: a processor without bf16 emulates it.
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    chosen, given = recipe(name, steps=4, save_every=4), {"teacher": str(teacher_folder), "precision": "bf16"}
    train(chosen, token_corpus, straight, **given)
    with stopping_at(1):
        assert train(chosen, token_corpus, stopped, **given).step == 2
    train(chosen, token_corpus, stopped, **given, resume=True)
    last = Path("checkpoints") / "checkpoint-4" / "model.safetensors"
    assert same(load_file(straight / last), load_file(stopped / last))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_other_cuts_of_a_step_change_the_result_by_rounding_only_where_nothing_drops_out(
    dropout, token_corpus, teacher_folder, tmp_path
):
    chosen = recipe(steps=4, hidden_dropout=dropout)
    for tokens in (40, 10_000):
        train(chosen, token_corpus, tmp_path / str(tokens), teacher=str(teacher_folder), precision="fp32",
              tokens_per_batch=tokens)  # fmt: skip
    one, two = (
        load_file(tmp_path / tokens / "checkpoints" / "checkpoint-4" / "model.safetensors")
        for tokens in ("40", "10000")
    )
    assert all(torch.allclose(value, two[key], atol=1e-6, rtol=0) for key, value in one.items()) == (dropout == 0)


def test_a_half_written_checkpoint_is_never_resumed_from(token_corpus, teacher_folder, tmp_path):
    straight, torn = tmp_path / "straight", tmp_path / "torn"
    train(recipe(), token_corpus, straight, teacher=str(teacher_folder))
    _stopped_after(torn, 3, token_corpus, teacher_folder)
    partial = torn / "checkpoints" / ".partial" / "checkpoint-6"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"torn")
    train(recipe(), token_corpus, torn, teacher=str(teacher_folder), resume=True)
    assert same(weights(straight), weights(torn))


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(token_corpus, teacher_folder, tmp_path):
    straight, early = tmp_path / "straight", tmp_path / "early"
    train(recipe(), token_corpus, straight, teacher=str(teacher_folder))
    _stopped_after(early, 0, token_corpus, teacher_folder)
    train(recipe(), token_corpus, early, teacher=str(teacher_folder), resume=True)
    assert same(weights(straight), weights(early))


def _stopped_after(out: Path, step: int, token_corpus: Path, teacher_folder: Path) -> None:
    """Leave `out` as a kill after the last checkpoint but one of every `step` would; 0: before the first."""
    train(recipe(), token_corpus, out, teacher=str(teacher_folder))
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "result": None}))
    for checkpoint in (out / "checkpoints").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    for file in ("model.safetensors", "README.md"):
        (out / file).unlink()
    shutil.rmtree(out / "checkpoints" / "best")
    if step:
        other = out.with_name("until")
        until = recipe(save_every=step)
        train(until, token_corpus, other, teacher=str(teacher_folder))
        kept = sorted((other / "checkpoints").glob("checkpoint-*"))
        last_but_one = kept[-2]
        shutil.copytree(last_but_one, out / "checkpoints" / last_but_one.name)


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_resume(cli, token_corpus, teacher_folder, tmp_path):
    out = tmp_path / "run"
    with stopping_at(1, signal.SIGINT) as stderr:
        status, _, _ = cli(*command(out, token_corpus, teacher_folder, "--steps", "4000")[3:])
    last = stderr.getvalue().splitlines()[-1]
    assert status == 130 and "step 2" in last and "--resume" in last and "Traceback" not in stderr.getvalue()
    assert (out / "checkpoints" / "checkpoint-2").is_dir()


def test_a_finished_run_is_left_alone(token_corpus, teacher_folder, tmp_path):
    out = tmp_path / "run"
    first = train(recipe(), token_corpus, out, teacher=str(teacher_folder))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = train(recipe(), token_corpus, out, teacher=str(teacher_folder))
    assert again.state == "already finished" and again.heldout_loss == first.heldout_loss
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    shutil.rmtree(out / "checkpoints")
    (out / "metrics.jsonl").unlink()
    assert train(recipe(), token_corpus, out, teacher=str(teacher_folder)).state == "already finished"


def test_steps_are_the_same_however_they_are_divided(token_corpus):
    rows = corpus.open(token_corpus)["train"]
    masking = Masking.of(corpus.tokenizer(token_corpus), 0.15, seed=3)

    def citations(rank, world, tokens):
        found = []
        for batch in batches.Steps(batches.Masked(rows, masking), 6, tokens, 99, rank, world)[17]:
            cuts = list(zip(batch.borders, batch.borders[1:], strict=False))
            found += [(batch.input_ids[a:b].tolist(), batch.labels[a:b].tolist()) for a, b in cuts]
        return found

    whole = sorted(citations(0, 1, 10_000))
    assert len(whole) == 6
    assert whole == sorted(citations(0, 2, 40) + citations(1, 2, 40)) == sorted(citations(0, 1, 1))


def test_an_epoch_takes_every_row_once_and_the_next_another_order(token_corpus):
    rows = corpus.open(token_corpus)["train"]
    masking = Masking.of(corpus.tokenizer(token_corpus), 0.15, seed=3)
    steps = batches.Steps(batches.Masked(rows, masking), 10, 1000, 99)
    places = [place for step in range(10) for place in steps.places(step)]
    epochs = [[row for epoch, row in places if epoch == wanted] for wanted in (0, 1)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs) and epochs[0] != epochs[1]


@pytest.mark.parametrize("epoch", [0, HELDOUT_EPOCH])
def test_masks_follow_seed_epoch_and_row_and_the_published_shares(epoch):
    special = np.zeros(1000, dtype=bool)
    special[:5] = True
    masking = Masking(0.15, 4, special, seed=1)
    ids = np.concatenate([[2], np.random.default_rng(0).integers(5, 1000, 40_000), [3]])
    inputs, labels = masking.apply(ids, epoch, row=7)
    again, _ = masking.apply(ids, epoch, row=7)
    assert np.array_equal(inputs, again)
    for other in (
        masking.apply(ids, epoch - 1 if epoch else 1, 7),
        masking.apply(ids, epoch, 8),
        Masking(0.15, 4, special, 2).apply(ids, epoch, 7),
    ):
        assert not np.array_equal(inputs, other[0])
    chosen = labels != -100
    assert not chosen[[0, -1]].any() and np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(inputs[~chosen], ids[~chosen])
    assert chosen.mean() == pytest.approx(0.15, abs=0.006)
    assert (inputs[chosen] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (inputs[chosen] == ids[chosen]).mean() == pytest.approx(0.1, abs=0.015)
