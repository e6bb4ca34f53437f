"""A plan counts what a run will do, and forecasts its time from steps on this machine."""

import json

import pytest
import torch

from compactbio import corpus, recipes
from compactbio.modeling import build_student, encoder_parameters, hardware
from compactbio.recipes import LossTerm
from compactbio.training import batches
from compactbio.training import plan as planning
from compactbio.training.batches import Masking
from compactbio.training.plan import SHARE, Timed, plan, training_flops_per_token
from conftest import SMALL, TINY, bert, one_sentence


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Time as many steps as fit into a moment: how exact the figures are is not tested."""
    monkeypatch.setattr(planning, "_ENOUGH", 0.01)


def recipe(**more):
    """distil-biobert cut down to small models."""
    return recipes.load("distil-biobert", **{**SMALL, "eval_every": 40, "save_every": 40, **more})


def test_a_plan_counts_the_run(token_corpus, teacher_folder):
    found = plan(
        recipe(steps=100), token_corpus, teacher=str(teacher_folder), devices=["8xH100", "l4"], precision="fp32"
    )
    assert (found.steps, found.citations, found.epochs, found.rows) == (100, 600, 12.0, 50)
    assert found.tokens == pytest.approx(600 * found.tokens_per_row)
    assert found.flops == pytest.approx(found.tokens * found.flops_per_token)
    assert found.student_parameters < found.teacher_parameters
    assert found.seconds == found.training_seconds + found.heldout_seconds + found.checkpoint_seconds
    assert found.heldout_seconds > 0 and found.checkpoint_seconds > 0 and found.memory_bytes > 100e6
    several, one = found.elsewhere
    assert several.hours_at_full_rate == pytest.approx(found.flops / (8 * 989e12) / 3600)
    assert several.hours == several.hours_at_full_rate / SHARE and one.fits
    assert one.hours / several.hours == pytest.approx(8 * 989 / 121)


def test_a_forecast_is_what_the_timed_steps_come_to_over_the_run(token_corpus, teacher_folder, monkeypatch):
    """Each token of a timed step takes its share of what the update leaves, and each step of the run an update."""
    timed = Timed(seconds=(2.5, 4.5, 9.0), update=(0.5, 0.5, 0.5), tokens=(100, 200, 100))
    counts = []
    monkeypatch.setattr(planning, "time_steps", lambda *_, count, **__: counts.append(count) or timed)
    chosen = recipe(steps=30, batch_size=24)
    found = plan(chosen, token_corpus, teacher=str(teacher_folder), precision="fp32")
    # 0.02, 0.02 and 0.085 seconds a token.
    assert found.training_seconds == pytest.approx(30 * (0.02 * 24 * found.tokens_per_row + 0.5))
    assert found.tokens_per_second == pytest.approx(24 * found.tokens_per_row * 30 / found.training_seconds)
    assert counts == [3] and found.timed_steps == 3


@pytest.mark.parametrize(("seconds", "wanted"), [(4.0, [3]), (0.5, [3, 20]), (0.001, [3, 100])])
def test_as_many_steps_are_timed_as_ten_seconds_hold(seconds, wanted, token_corpus, teacher_folder, monkeypatch):
    counts = []
    monkeypatch.setattr(planning, "_ENOUGH", 10.0)

    def steps(*_, count, **__):
        counts.append(count)
        return Timed((seconds,) * count, (0.0,) * count, (10,) * count)

    monkeypatch.setattr(planning, "time_steps", steps)
    plan(recipe(steps=30), token_corpus, teacher=str(teacher_folder), precision="fp32")
    assert counts == wanted


def test_steps_are_timed_with_the_encoder_in_training_where_a_run_begins_with_its_head_alone(token_corpus):
    small = recipes.load("bio-distilbert-cased", **{**SMALL, "head_steps": 50, "steps": 60})
    student = bert(layers=2)
    before = student.bert.encoder.layer[0].output.dense.weight.clone()
    rows = batches.Masked(corpus.open(token_corpus)["train"], Masking.of(corpus.tokenizer(token_corpus), 0.15, 0))
    planning.time_steps(student, None, rows, small, precision="fp32", tokens_per_batch=64, count=2)
    assert not torch.equal(before, student.bert.encoder.layer[0].output.dense.weight)


def test_arithmetic_counts_heads_where_a_term_reads_them_and_the_teacher_once():
    student, teacher = bert(layers=2), bert(layers=4)
    lengths = [10, 30]
    both = training_flops_per_token(recipe(), student, teacher, lengths)
    alone = training_flops_per_token(recipe(), student, None, lengths)
    states = training_flops_per_token(
        recipe().model_copy(update={"loss": {LossTerm.HIDDEN_COSINE: 1.0}}), student, teacher, lengths
    )
    width, inner, vocabulary = 24, 48, student.config.vocab_size
    length, masked = (100 + 900) / 40, 0.15 * 36 / 40
    layer = 2 * (4 * width * width + 2 * width * inner) + 4 * length * width
    head = 2 * masked * (width * width + vocabulary * width)
    assert alone == pytest.approx(3 * (2 * layer + head))
    assert both == pytest.approx(alone + 4 * layer + head)
    assert states == pytest.approx(3 * 2 * layer + 4 * layer)


def test_arithmetic_counts_the_maps_that_attention_terms_compare():
    student, teacher, lengths = bert(layers=2, hidden=12), bert(layers=4), [10, 30]

    def taken(term):
        loss = {LossTerm.MLM: 1.0} | ({term: 1.0} if term else {})
        return training_flops_per_token(recipe().model_copy(update={"loss": loss}), student, teacher, lengths)

    a_map = 2 * 25 * (3 * 12 + 24)  # tokens of the mean token's row; forward and the two gradients, and the teacher's
    assert taken(LossTerm.ATTENTION_RELATIONS) == pytest.approx(taken(None) + 3 * a_map)
    assert taken(LossTerm.ATTENTION_KL) == pytest.approx(taken(None) + 2 * a_map)


def test_the_relation_recipe_is_planned(token_corpus, teacher_folder):
    chosen = recipes.load("relation-biobert", **{**SMALL, **TINY, "steps": 10, "eval_every": 40, "save_every": 40})
    found = plan(chosen, token_corpus, teacher=str(teacher_folder), precision="fp32", devices=["H100"])
    assert found.student_parameters == encoder_parameters(build_student(chosen, bert(layers=4)))
    assert found.student_parameters < found.teacher_parameters and found.seconds > 0


def test_the_command_prints_text_and_json(cli, token_corpus, teacher_folder):
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    arguments = ["plan", "distil-biobert", "--corpus", token_corpus, "--teacher", teacher_folder, *sets]
    status, printed, messages = cli(*arguments, "--steps", 50, "--devices", "2xA100")
    assert status == 0, messages
    assert "50: 300 citations, 6.00 epochs" in printed and "2 x A100" in printed and "not measured" in printed
    status, printed, messages = cli(*arguments, "--json")
    assert status == 0, messages
    assert json.loads(printed)["recipe"] == "distil-biobert"


def test_what_cannot_be_planned_is_one_sentence(cli, token_corpus, teacher_folder, tmp_path):
    given = ("plan", "distil-biobert", "--corpus", token_corpus, "--teacher", teacher_folder)
    one_sentence(cli(*given, "--devices", "8xAbacus"), "'8xAbacus'", "H100")
    one_sentence(cli(*given, "--devices", "0xH100"), "'0xH100'")
    one_sentence(cli("plan", "distil-biobert", "--corpus", tmp_path, "--teacher", teacher_folder), str(tmp_path))
    assert hardware.find("4x h200")[0] == 4
