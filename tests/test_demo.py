"""The demo from end to end at a small scale: table, page, export, annotated texts, and the same when resumed."""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM

from compactbio.demo import data, page, run
from compactbio.documents import Span
from compactbio.modeling.families import encoder_parameters
from conftest import one_sentence
from interruptions import stopping_at

SMALL = run.Scale(
    data.Sizes(corpus=60, heldout=10, train=12, devel=5, test=8),
    teacher_steps=6,
    student_steps=3,
    students=tuple(one for one in run.STUDENTS if one.name in ("tiny-biobert", "tiny-alone")),
)
TASKS = ["ner", "relation", "qa"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[Path, run.Result]:
    out = tmp_path_factory.mktemp("straight") / "demo"
    return out, run.demo(out, SMALL, say=lambda _: None)


def known(out: Path) -> dict[str, object]:
    """What the runs in a folder came to, but for their speed."""
    made = {path.parent.name: json.loads(path.read_text())["result"] for path in out.glob("models/*/run.json")}
    paths = sorted((out / "tuned" / "runs").glob("*/seed-0/evaluation.json"))
    return made | {path.parts[-3]: json.loads(path.read_text())["units"] for path in paths}


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_the_page(straight, cli, monkeypatch):
    out, found = straight
    monkeypatch.setattr(run, "Scale", lambda: SMALL)
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    status, printed, messages = cli("demo", "--out", out, "--json")
    assert status == 0, messages
    assert weights == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} and len(weights) >= 12
    result = json.loads(printed)
    assert json.loads((out / "table.json").read_text()) == {key: result[key] for key in result if key != "page"}
    rows = {row["model"]: row for row in result["rows"]}
    assert list(rows) == ["teacher", "tiny-biobert", "tiny-alone"]
    for name, row in rows.items():
        model = AutoModelForMaskedLM.from_pretrained(out / "models" / name)
        assert row["parameters"] == encoder_parameters(model)
        assert row["megabytes"] == (out / "models" / name / "model.safetensors").stat().st_size / 1e6
        assert list(row["scores"]) == TASKS and row["tokens_per_second"] > 0
        assert row["mean"] == pytest.approx(sum(row["scores"].values()) / 3)
        assert row["share"] == pytest.approx(row["mean"] / rows["teacher"]["mean"])
        assert [step for step, _ in result["curves"][name]][-1] == (6 if name == "teacher" else 3)
    assert [(row.model, row.scores) for row in found.rows] == [(n, row["scores"]) for n, row in rows.items()]

    for name, row in rows.items():
        for column in found.scores.columns:
            [file] = out.glob(f"tuned/runs/{column.data}-{name}-??????/seed-0/evaluation.json")
            assert row["scores"][column.data] == pytest.approx(json.loads(file.read_text())[column.metric])

    gate = result["exported"]
    assert (out / "exported" / gate["file"]).stat().st_size == gate["exported"]["bytes"]
    assert gate["refused"] or gate["original"]["score"] - gate["exported"]["score"] <= 0.003 + 1e-9
    assert set(gate["test"]) == {"original", "exported"}

    shown = Path(result["page"]).read_text()
    assert "Synthetic." in shown and shown.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!#)', shown)
    for cells in page.cells(run_result(result, found)):
        assert all(f"<td>{cell}</td>" in shown for cell in cells)
    [sentence] = result["verdicts"]
    assert sentence.replace("'", "&#39;") in shown
    status, printed, messages = cli("demo", "--out", out)
    assert status == 0 and "tiny-biobert" in printed and "Page: " in printed and sentence in printed, messages


def run_result(result: dict, found: run.Result) -> run.Result:
    """`found` with the speeds of the printed result."""
    rows = [replace(row, **printed) for row, printed in zip(found.rows, result["rows"], strict=True)]
    return replace(found, rows=tuple(rows))


def test_annotated_texts_are_shown_with_their_gold(straight):
    texts = straight[1].annotated
    gold = [json.loads(line) for line in (straight[0] / "tasks" / "ner" / "test.jsonl").open()]
    assert [text.text for text in texts] == [one["text"] for one in gold[: len(texts)]] and len(texts) == 3
    for text, one in zip(texts, gold, strict=False):
        assert [(span.start, span.end, span.type) for span in text.gold] == [
            (span["start"], span["end"], span["type"]) for span in one["spans"]
        ]
        assert all(0 <= span.start < span.end <= len(text.text) for span in text.found)
        assert bool(text.differs) == (text.found != text.gold)


@pytest.mark.slow
def test_a_demo_that_was_stopped_three_times_gives_the_same(straight, tmp_path):
    class Killed(BaseException):
        pass

    def until(word: str):
        def say(line: str) -> None:
            if line.startswith(word):
                raise Killed

        return say

    out = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt), stopping_at(4, signal.SIGINT):
        run.demo(out, SMALL, say=lambda _: None)
    with pytest.raises(Killed):
        run.demo(out, SMALL, say=until("[4/9]"))
    with pytest.raises(Killed):
        run.demo(out, SMALL, say=until("5/6"))
    assert known(out) == known(straight[0]) and len(known(out)) == 3 + 9


def test_a_demo_is_repeated_where_its_folder_is_now(straight, tmp_path, monkeypatch):
    shutil.copytree(straight[0], tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    again = run.demo(Path("moved"), SMALL, say=lambda _: None)
    assert again.exported["out"] == "moved/exported" and again.exported["test"] == straight[1].exported["test"]
    assert again.annotated == straight[1].annotated and again.verdicts == straight[1].verdicts


def test_a_student_that_did_worse_is_said_to_have_done_worse(straight):
    def row(name: str, mean: float) -> run.Row:
        return run.Row(name, "", 1, 1.0, 1, 1.0, 1.0, {}, mean, mean / 0.8)

    students = run.STUDENTS[:1]
    means = {"distil-biobert": 0.5, "one-layer-alone": 0.6, "first-layer-alone": 0.4}
    [sentence] = run._verdicts([row(name, mean) for name, mean in means.items()], students)
    assert "does NOT keep 90%" in sentence and "does NOT beat the same shape" in sentence
    assert "; it beats the same layers of the teacher" in sentence
    means = {"distil-biobert": 0.75, "one-layer-alone": 0.6, "first-layer-alone": 0.75}
    [sentence] = run._verdicts([row(name, mean) for name, mean in means.items()], students)
    assert " keeps 90%" in sentence and "beats the same shape" in sentence and "it does NOT beat" in sentence


def test_what_the_model_got_wrong_is_said_and_nothing_is_markup(straight, tmp_path):
    text = run.Text(
        "<b> aspirin, gout",
        (Span(4, 11, "Disease"),),
        (Span(4, 11, "Drug"), Span(13, 17, "Disease")),
        ("missed: gout (Disease)",),
    )
    assert page.shown(text) == "<b> [aspirin Disease], gout"
    page.write(replace(straight[1], annotated=(text,)), tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text()
    assert '&lt;b&gt; <mark style="background: var(--Disease)">aspirin<small>Disease</small></mark>, gout' in written
    assert "Differs from the gold: missed: gout (Disease)." in written


def test_a_folder_of_something_else_is_left_alone(cli, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    one_sentence(cli("demo", "--out", tmp_path), "holds no demo")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_not_installed_is_said_before_the_first_step(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "onnx" else object())
    one_sentence(cli("demo", "--out", tmp_path / "demo"), "needs onnx", "compactbio[onnx]")
    assert not (tmp_path / "demo").exists()


def test_the_packaged_recipes_are_shown_by_each_kind():
    from compactbio import recipes

    kinds = {one.recipe: recipes.load(one.recipe).kind for one in run.STUDENTS if one.recipe}
    assert {"distil-biobert", "compact-biobert", "tiny-biobert"} <= kinds.keys() and set(kinds.values()) == {
        "distil",
        "continue",
    }
    names = {one.name for one in run.STUDENTS}
    assert all({one.alone, one.undistilled, one.init} - {""} <= names for one in run.STUDENTS)
    assert {one.recipe for one in run.STUDENTS if one.alone} == {"distil-biobert", "compact-biobert", "tiny-biobert"}
