"""The demo takes all its steps, resumes, and what it shows is what it found."""

import json
import re
from dataclasses import replace

import pytest

from compactbio.demo import data, page, run
from conftest import one_sentence

SCALE = run.Scale(
    sizes=data.Sizes(corpus=200, heldout=20, train=60, devel=10, test=20),
    teacher_steps=60,
    student_steps=10,
    students=tuple(s for s in run.STUDENTS if s.name in ("distil-biobert", "first-layer-alone", "one-layer-alone")),
)
MODELS = ["teacher", "distil-biobert", "first-layer-alone", "one-layer-alone"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def result(out):
    return run.demo(out, SCALE, lambda line: None)


@pytest.mark.slow
def test_every_model_is_scored_on_the_three_tasks_beside_its_teacher(result, out):
    assert [row.model for row in result.rows] == MODELS
    teacher = result.rows[0]
    metrics = {column.data: column.metric for column in result.scores.columns}
    for row in result.rows:
        assert list(row.scores) == ["ner", "relation", "qa"] and all(0 <= score <= 1 for score in row.scores.values())
        assert row.mean == pytest.approx(sum(row.scores.values()) / 3)
        assert row.share == pytest.approx(row.mean / teacher.mean)
        assert row.parameters > 1e4 and row.megabytes > 0.1 and row.tokens_per_second > 0
        assert len(result.curves[row.model]) > 1
        for task, score in row.scores.items():
            [kept] = out.glob(f"tuned/runs/{task}-{row.model}-*/seed-0/evaluation.json")
            evaluation = json.loads(kept.read_text())
            assert score == pytest.approx(evaluation[metrics[task]])


@pytest.mark.slow
def test_verdicts_say_what_the_table_says(result):
    [verdict] = result.verdicts
    own, alone = (next(row for row in result.rows if row.model == name) for name in (MODELS[1], MODELS[3]))
    assert verdict.startswith(f"distil-biobert {'keeps' if own.share >= 0.9 else 'does NOT keep'} 90%")
    word = "beats" if own.mean > alone.mean else "does NOT beat"
    assert f"{word} the same shape from random weights by MLM alone" in verdict


def test_a_student_that_did_worse_is_said_to_have_done_worse():
    def row(model: str, mean: float) -> run.Row:
        scores = dict.fromkeys(("ner", "relation", "qa"), mean)
        return run.Row(model, "", 1, 1.0, 1, 1.0, 1.0, scores, mean, mean / 0.9)

    rows = [row("teacher", 0.9), row("distil-biobert", 0.5), row("first-layer-alone", 0.4), row("one-layer-alone", 0.6)]
    [verdict] = run._verdicts(rows, SCALE.students)
    assert "does NOT keep 90%" in verdict and "does NOT beat the same shape" in verdict
    assert "beats the same layers of the teacher" in verdict


@pytest.mark.slow
def test_the_best_student_is_exported_and_annotates_texts_of_test_names(result):
    assert result.exported["model"] == "distil-biobert" and set(result.exported["test"]) == {"original", "exported"}
    assert result.annotated
    for text in result.annotated:
        assert all(0 <= span.start < span.end <= len(text.text) for span in (*text.found, *text.gold))
        assert (not text.differs) == (set(text.found) == set(text.gold))
        plain = "".join(piece for piece, _ in page.pieces(text.text, text.found))
        assert plain == text.text


@pytest.mark.slow
def test_the_page_holds_table_curves_plots_and_texts_and_asks_no_other_host(result, tmp_path):
    shown = replace(result, annotated=(replace(result.annotated[0], text="<b>" + result.annotated[0].text[3:]),))
    page.write(shown, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert all(f"{100 * row.mean:.2f}" in text and row.model in text for row in result.rows)
    assert "Synthetic" in text and text.count("<svg") >= 3 and "&lt;b&gt;" in text and "<script" not in text
    plain = re.sub(
        r"http://www\.w3\.org|http://purl\.org|https?://matplotlib\.org|http://creativecommons\.org", "", text
    )
    assert "http" not in plain


@pytest.mark.slow
def test_a_second_run_trains_nothing_and_finds_the_same(result, out):
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    (out / "table.json").unlink()
    again = run.demo(out, SCALE, lambda line: None)
    assert written == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} and len(written) >= 16
    assert [row.scores for row in again.rows] == [row.scores for row in result.rows]
    assert again.annotated == result.annotated and again.verdicts == result.verdicts


def test_a_folder_of_something_else_is_left_alone(cli, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    one_sentence(cli("demo", "--out", tmp_path), "holds no demo")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
