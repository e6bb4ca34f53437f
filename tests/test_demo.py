"""The demo runs the whole way, and what it shows is true."""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM

from compactbio.annotate import Entity
from compactbio.demo import page
from compactbio.demo.run import Row, Table, Tagged
from compactbio.modeling.families import encoder_parameters
from conftest import one_sentence

DISTILLED = ["distil-biobert", "compact-biobert", "tiny-biobert"]


@pytest.mark.slow
def test_the_demo_ends_with_a_true_table_and_a_page(cli, tmp_path):
    out = tmp_path / "demo"
    status, printed, messages = cli("demo", "--out", out, "--json")
    assert status == 0, messages
    found = json.loads(printed)
    rows = {row["model"]: row for row in found["rows"]}
    assert list(rows) == ["teacher", *DISTILLED, "continued"]
    assert rows["teacher"]["loss"] < found["unigram"] - 1
    # The commonest piece is right less than once in ten times; the two that start from the teacher keep most it knows.
    assert rows["teacher"]["accuracy"] > 0.12
    assert all(rows[name]["accuracy"] > 0.6 * rows["teacher"]["accuracy"] for name in DISTILLED[:2])
    for name in rows:
        model = AutoModelForMaskedLM.from_pretrained(out / "models" / name)
        assert rows[name]["parameters"] == encoder_parameters(model)
        record = json.loads((out / "models" / name / "run.json").read_text())["result"]
        assert rows[name]["loss"] == pytest.approx(record["heldout_loss"], abs=0.05)
        curve = found["curves"][name]
        assert curve[-1][1] < curve[0][1]
    text = Path(found["page"]).read_text()
    assert (
        "Synthetic" in text
        and "<svg" in text
        and "http"
        not in re.sub(
            r"http://www\.w3\.org|http://purl\.org|https?://matplotlib\.org|http://creativecommons\.org", "", text
        )
    )
    for name in DISTILLED:
        word = "lower" if rows[name]["loss"] < rows[name]["alone"] else "NOT lower"
        assert f"{rows[name]['alone']:.3f} by MLM alone from the same start for the same steps: {word}." in text
    tagged = found["tagged"]
    assert tagged["f1"] > 0.5 and tagged["entities"]
    for entity in tagged["entities"]:
        assert tagged["text"][entity["start"] : entity["end"]] == entity["text"]
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = json.loads(cli("demo", "--out", out, "--json")[1])
    assert written == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} and len(written) >= 9
    assert [row["loss"] for row in again["rows"]] == [row["loss"] for row in found["rows"]]


def test_a_student_that_did_worse_is_said_to_have_done_worse(tmp_path):
    rows = [
        Row("distil-biobert", "distilled", 1000, 0.1, 3.0, 0.5, 10.0, alone=2.5),
        Row("tiny-biobert", "distilled", 1000, 0.1, 3.0, 0.5, 10.0, alone=3.5),
    ]
    tagged = Tagged("models/tagger", 0.5, "<b>aspirin", [Entity(3, 10, "aspirin", "Drug", 0.9)])
    curves = {"teacher": [(0, 6.0), (1, 5.0)], "distil-biobert": [(0, 6.0), (1, 3.0)]}
    table = Table(rows, 6.0, 100, curves, tagged)
    assert tagged.shown() == "<b>[aspirin Drug]"
    first, second = table.verdicts()
    assert first.endswith("NOT lower.") and second.endswith(": lower.")
    page.write(table, tmp_path / "page.html")
    shown = (tmp_path / "page.html").read_text()
    assert "NOT lower" in shown and "&lt;b&gt;<mark>aspirin <small>Drug</small></mark>" in shown


def test_a_folder_of_something_else_is_left_alone(cli, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    one_sentence(cli("demo", "--out", tmp_path), "holds no demo")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
