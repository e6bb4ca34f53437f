"""What an earlier run of `annotate` left: damaged shards and records, other models' work, stale failures."""

import json
import os
from pathlib import Path

import pytest

from compactbio import formats
from compactbio.annotate import shards
from compactbio.annotate.files import AnnotatedFile, annotate_files
from compactbio.documents import Document
from compactbio.errors import UserError
from conftest import one_sentence
from interruptions import Notes

QUICK = {"runtime": "torch-fp32", "workers": 1}


def lines(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"id": str(i), "text": f"aspirin {i}"}) + "\n" for i in range(count)))
    return path


class Stopping(Notes):
    """Presses Ctrl-C when so many documents are done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def step(self, stage: str, done: int, total: int) -> None:
        if done > self.after:
            raise KeyboardInterrupt


@pytest.fixture
def stopped(tagger, tmp_path, monkeypatch):
    """The source of a run, its output when it is not stopped, and where a stopped one left two shards of three."""
    monkeypatch.setattr(shards, "SHARD_DOCUMENTS", 20)
    source = lines(tmp_path / "in.jsonl", 60)
    annotate_files(source, tmp_path / "straight.jsonl", models=tagger, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        annotate_files(source, tmp_path / "out.jsonl", models=tagger, listener=Stopping(40), **QUICK)
    folder = tmp_path / ".out.jsonl.shards"
    assert len(list(folder.glob("*-*"))) == 2
    return source, (tmp_path / "straight.jsonl").read_bytes(), folder


def cut(content: bytes, count: int) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:count])


@pytest.mark.parametrize(
    "damage",
    [lambda found: cut(found, 10), lambda found: cut(found, 20), lambda _: b"", lambda found: b"\0" * len(found),
     lambda found: found[: len(found) // 2], lambda _: b'{"a": 1}\n', lambda found: found.replace(b" 7", b" 8"),
     lambda found: cut(found, 10) + found.splitlines(keepends=True)[-1]],
)  # fmt: skip
def test_a_damaged_shard_is_made_again(tagger, tmp_path, stopped, damage):
    source, straight, folder = stopped
    first = folder / "000000-000000.jsonl"
    first.write_bytes(damage(first.read_bytes()))
    listener = Notes()
    result = annotate_files(source, tmp_path / "out.jsonl", models=tagger, listener=listener, **QUICK)
    assert result.documents == 60 and (tmp_path / "out.jsonl").read_bytes() == straight
    assert "damaged files of finished work, which are made again: 1" in listener.notes
    assert "resuming: 20 documents are done already" in listener.notes


@pytest.mark.parametrize("identity", [None, b"", b'{"models": ["', b"\xff\xfe", b"[]", b"[" * 9999])
def test_shards_of_a_run_that_is_not_known_are_refused(tagger, tmp_path, stopped, identity):
    source, _, folder = stopped
    if identity is None:
        (folder / "identity.json").unlink()
    else:
        (folder / "identity.json").write_bytes(identity)
    with pytest.raises(UserError, match=r"or its identity\.json is damaged; .* or remove that folder\."):
        annotate_files(source, tmp_path / "out.jsonl", models=tagger, **QUICK)
    for shard in folder.glob("*-*"):
        shard.unlink()
    assert annotate_files(source, tmp_path / "out.jsonl", models=tagger, **QUICK).documents == 60


@pytest.mark.parametrize("result", [None, {}, [], {"state": "x"}, {"later": 1}])
def test_a_record_that_is_not_ours_is_no_result_of_this_run(tagger, tmp_path, result):
    source, out = lines(tmp_path / "in.jsonl", 2), tmp_path / "out.jsonl"
    annotate_files(source, out, models=tagger, **QUICK)
    record = tmp_path / "out.jsonl.run.json"
    found = json.loads(record.read_text())
    for text in (json.dumps({**found, "result": result}), "[" * 9999):
        record.write_text(text)
        with pytest.raises(UserError, match="is not the output of this run"):
            annotate_files(source, out, models=tagger, **QUICK)
    record.write_text(json.dumps(found))
    again = annotate_files(source, out, models=tagger, **QUICK)
    assert isinstance(again, AnnotatedFile) and (again.state, again.out) == ("already finished", str(out))


@pytest.mark.parametrize("format", ["jsonl", "brat"])
def test_an_output_that_was_cut_since_is_not_taken_for_finished(tagger, tmp_path, format):
    source, out = lines(tmp_path / "in.jsonl", 2), tmp_path / "out"

    def annotated():
        return annotate_files(source, out, models=tagger, format=format, **QUICK).state

    assert [annotated(), annotated()] == ["finished", "already finished"]
    cut = out if format == "jsonl" else sorted(out.glob("*.ann"))[0]
    content = cut.read_bytes()
    cut.write_bytes(content[:-1])
    with pytest.raises(UserError, match="is not the output of this run, or was changed since; remove it"):
        annotated()
    cut.write_bytes(content)
    record = tmp_path / "out.run.json"
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "bytes"}))
    assert annotated() == "already finished"  # as older versions recorded it


@pytest.mark.parametrize(("moved", "damaged"), [("000000-000001.jsonl", 1), ("000004-000000.jsonl", 1)])
def test_a_shard_under_another_name_is_made_again(tagger, tmp_path, stopped, moved, damaged):
    source, straight, folder = stopped
    (folder / moved).write_bytes((folder / "000000-000000.jsonl").read_bytes())
    listener = Notes()
    result = annotate_files(source, tmp_path / "out.jsonl", models=tagger, listener=listener, **QUICK)
    assert result.documents == 60 and (tmp_path / "out.jsonl").read_bytes() == straight
    assert f"damaged files of finished work, which are made again: {damaged}" in listener.notes


def test_failures_of_an_earlier_output_do_not_stay_beside_a_new_one(tagger, tmp_path):
    source, out = lines(tmp_path / "in.jsonl", 2), tmp_path / "out.jsonl"
    with source.open("a") as file:
        file.write("bad\n")
    assert annotate_files(source, out, models=tagger, **QUICK).failed == 1
    failures = tmp_path / "out.jsonl.failed.jsonl"
    assert failures.exists()
    out.unlink()
    lines(source, 2)
    assert annotate_files(source, out, models=tagger, **QUICK).failed == 0 and not failures.exists()


def test_a_finished_run_is_one_of_the_files_that_are_read_under_their_paths(tagger, tmp_path):
    folder, out = tmp_path / "texts", tmp_path / "out.jsonl"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.txt").write_text(f"aspirin {name}")
    annotate_files(folder, out, models=tagger, **QUICK)
    (folder / "README.md").write_text("Notes.")
    assert annotate_files(folder, out, models=tagger, **QUICK).state == "already finished"
    (folder / "a").rename(folder / "aa")
    with pytest.raises(UserError, match="is not the output of this run"):
        annotate_files(folder, out, models=tagger, **QUICK)


@pytest.mark.parametrize("out", [".", "", "/", ".."])
def test_an_output_without_a_name_is_refused_at_once(cli, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("aspirin")
    arguments = ("annotate", "x.txt", "--model", "m", "--format", "brat", "--out", out)
    one_sentence(cli(*arguments), "has no name of its own: name a new file or folder. (option --out)")
    with pytest.raises(UserError, match=r"has no name of its own|path is empty: name it"):
        formats.write([Document("1", "aspirin")], out, "brat")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_an_output_whose_name_is_not_utf8_is_written_and_shown(cli, tagger, tmp_path):
    source, name = tmp_path / "in.txt", os.fsdecode(b"o\xe9.jsonl")
    source.write_text("aspirin")
    status, printed, messages = cli(
        "annotate", source, "--model", tagger, "--out", tmp_path / name, "--runtime", "torch-fp32", "--workers", "1"
    )
    assert status == 0 and r"o\udce9.jsonl" in printed, messages
    assert (tmp_path / name).exists() and (tmp_path / f"{name}.run.json").exists()


@pytest.mark.parametrize("format", ["jsonl", "brat"])
def test_an_output_that_was_made_beside_a_stopped_run_is_kept(format, tagger, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_DOCUMENTS", 20)
    source, out = lines(tmp_path / "in.jsonl", 60), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        annotate_files(source, out, models=tagger, format=format, listener=Stopping(40), **QUICK)
    mine = out / "thesis.docx" if format == "brat" else out
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="exists and is not the output of this run"):
        annotate_files(source, out, models=tagger, format=format, **QUICK)
    assert mine.read_text() == "mine"


def test_files_that_are_named_twice_are_annotated_once(tagger, tmp_path, monkeypatch):
    article = "<PubmedArticle><MedlineCitation><PMID Version='1'>{0}</PMID><Article><ArticleTitle>T {0}.</ArticleTitle>"
    article += "</Article></MedlineCitation></PubmedArticle>"
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        whole = f"<PubmedArticleSet>{article.format(number)}</PubmedArticleSet>"
        (tmp_path / "in" / f"{number}.xml").write_text(whole)
    monkeypatch.chdir(tmp_path)
    found = annotate_files(["in", tmp_path / "in" / "1.xml"], "out.jsonl", models=tagger, **QUICK)
    assert (found.documents, found.updated) == (2, 0)
    lines(tmp_path / "in" / "3.jsonl", 2)
    found = annotate_files(["in/3.jsonl", tmp_path / "in" / "3.jsonl"], "more.jsonl", models=tagger, **QUICK)
    assert found.documents == 2
