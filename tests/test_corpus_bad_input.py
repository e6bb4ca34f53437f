"""Bad input gets one clear sentence, and nothing that was done is lost."""

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import BertTokenizerFast
from typer.testing import CliRunner

import forked
from citation_files import abstracts, article_set, digests, json_lines, record, rows, write
from compactbio import corpus
from compactbio.cli.corpus import app
from compactbio.corpus import reading
from compactbio.errors import UserError
from compactbio.files import file_digest
from compactbio.processes import unordered_results
from conftest import one_sentence
from interruptions import Interrupt, Notes, wait_for_end


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with two sources of three citations each."""
    write(tmp_path / "in" / "good1.jsonl.gz", json_lines(abstracts(3)))
    write(tmp_path / "in" / "good2.xml.gz", article_set(*(record(pmid, f"Study {pmid}.") for pmid in (11, 12, 13))))
    return tmp_path / "in"


# Sources


LONG = article_set(*(record(pmid) for pmid in range(3_000)))
BAD = {
    "short.xml.gz": (gzip.compress(LONG.encode())[:-2_000], "is truncated"),
    "short.jsonl.gz": (gzip.compress(json_lines(abstracts(9_000)).encode())[:-500], "is truncated"),
    "broken.xml": (LONG[:-100].encode(), "is malformed XML"),
    "page.xml": (b"<html><body>404</body></html>", "is not PubMed XML: its root is <html>"),
    "bytes.txt": (b"good\ncaf\xe9\n", "is not UTF-8: byte 0xe9 at offset 8, line 2"),
    "bomb.xml": (article_set(record(1, "&z;"), prolog='<!DOCTYPE x [<!ENTITY z "zz">]>').encode(), "declares entities"),
    "table.parquet": (b"PAR1" + b"\0" * 100, "is damaged"),
}


# One kind of damage is enough to see that it passes between processes.
@pytest.mark.parametrize(("name", "workers"), [*((name, 1) for name in BAD), ("short.xml.gz", 2)])
def test_a_bad_source_is_set_aside_whole_and_named(tmp_path, good, tokenizer_folder, name, workers):
    content, reason = BAD[name]
    corpus.build([good], tmp_path / "without", tokenizer=tokenizer_folder, workers=1)
    (good / name).write_bytes(content)
    listener = Notes()
    manifest = corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, listener=listener, workers=workers)
    [failed] = manifest["failed_sources"]
    assert failed["name"] == name and reason in failed["reason"]
    assert failed["sha256"] == hashlib.sha256(content).hexdigest()
    assert any(note.startswith("set aside:") and name in note and reason in note for note in listener.notes)
    assert rows(tmp_path / "out") == rows(tmp_path / "without")
    assert manifest["counts"]["read"] == 6
    with pytest.raises(UserError, match=re.escape(name) + " .*" + re.escape(reason)):
        corpus.build([good], tmp_path / "strict", tokenizer=tokenizer_folder, strict=True, workers=1)
    with pytest.raises(UserError, match=re.escape(reason)):
        corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, strict=True, workers=1)


@pytest.mark.parametrize("form", ["MD5({name})= {digest}\n", "{digest}  {name}\n", "{digest}\n"])
def test_an_md5_beside_a_source_is_verified(tmp_path, good, tokenizer_folder, form):
    path = good / "good2.xml.gz"
    note = good / "good2.xml.gz.md5"
    right = hashlib.md5(path.read_bytes()).hexdigest()
    note.write_text(form.format(name=path.name, digest=right))
    assert not corpus.build([good], tmp_path / "right", tokenizer=tokenizer_folder, workers=1)["failed_sources"]
    note.write_text(form.format(name=path.name, digest=right[::-1]))
    manifest = corpus.build([good], tmp_path / "wrong", tokenizer=tokenizer_folder, workers=1)
    [failed] = manifest["failed_sources"]
    assert failed["reason"] == f"does not agree with good2.xml.gz.md5: its MD5 is {right}, not {right[::-1]}"
    assert manifest["counts"]["read"] == 3
    note.write_text("nothing\n")
    with pytest.raises(UserError, match="holds no MD5 sum"):
        corpus.build([good], tmp_path / "none", tokenizer=tokenizer_folder, strict=True, workers=1)


def test_a_bad_line_kills_nothing(tmp_path, good, tokenizer_folder):
    write(
        good / "lines.jsonl",
        '{"pmid": 50, "title": "Aspirin."}\n{"pmid": 51, "tit\n{"pmid": 52, "title": "Insulin."}\n',
    )
    manifest = corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    assert manifest["counts"]["kept"] == 8
    assert manifest["failed_examples"] == [{"source": "lines.jsonl", "place": "line 2", "reason": "not JSON"}]


def test_an_external_entity_is_never_read(tmp_path, tokenizer_folder):
    secret = write(tmp_path / "secret", "aspirin")
    prolog = f'<!DOCTYPE PubmedArticleSet [<!ENTITY z SYSTEM "{secret.as_uri()}">]>'
    path = write(tmp_path / "a.xml", article_set(record(1, "&z;"), prolog=prolog))
    with pytest.raises(UserError, match=r"No citation in the file a\.xml; a\.xml declares entities"):
        corpus.build([path], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", "", "No citation in the file a.jsonl."),
        ("a.txt", "\n \n", "No citation in the file a.txt."),
        ("a.xml", article_set(), "No citation in the file a.xml."),
        ("a.jsonl", "nothing\n", "No citation is left of 1: failed 1"),
        ("a.jsonl", '{"title": ""}\n', "No citation is left of 1: .*empty 1"),
        ("a.xml", "<x/>", "No citation in the file a.xml; a.xml is not PubMed XML: its root is <x>"),
    ],
)
def test_an_empty_corpus(tmp_path, tokenizer_folder, name, content, sentence):
    with pytest.raises(UserError, match=sentence):
        corpus.build([write(tmp_path / name, content)], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    assert not (tmp_path / "out" / "manifest.json").exists()


# Arguments


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"inputs": ["{tmp}/missing.xml"]}, "missing.xml: no such file or folder"),
        ({"inputs": ["{tmp}/*.nothing"]}, "no file matches this pattern"),
        ({"inputs": []}, "No input is named: name at least one"),
        ({"tokenizer": "{tmp}/in"}, "in: no tokenizer could be loaded from it"),
        ({"tokenizer": "{tmp}/in/good1.jsonl.gz"}, "not a vocabulary"),
        ({"tokenizer": "{tmp}/words.txt"}, r"not a BERT vocabulary, \[UNK\]"),
        ({"tokenizer": "./nowhere"}, "nowhere: there is no such tokenizer"),
        ({"tokenizer": "nobody/nothing"}, "nobody/nothing: .*HF_HUB_OFFLINE"),
        ({"max_length": 2}, "2 tokens: it must be more than the 2 special ones"),
        ({"holdout": -1}, "holdout is -1; it must be 0 or more"),
        ({"holdout": 6}, "6 rows to hold out: the corpus has 6 rows in all"),
        ({"workers": 0}, "workers is 0; it must be 1 or more"),
        ({"max_length": "32"}, "max_length is '32'"),
        ({"holdout": 0.5}, "holdout is 0.5; it must be 0 or more"),
        ({"overflow": "wrap"}, "wrap: overflow is drop or keep"),
        ({"exclude": "{tmp}/missing.txt"}, "missing.txt: no such file"),
        ({"exclude": "{tmp}/words.txt"}, "words.txt, line 2: one PMID per line"),
        ({"exclude": "{tmp}/in/good1.jsonl.gz"}, "not a text file of PMIDs"),
        ({"out": "{tmp}/words.txt"}, "words.txt is a file"),
        ({"out": "{tmp}/in"}, "is not empty and holds no corpus"),
    ],
)
def test_a_mistake_in_the_arguments(tmp_path, good, tokenizer_folder, options, sentence):
    write(tmp_path / "words.txt", "1234\ntwo words\n")
    before = digests(good)
    named = {key: filled(value, tmp_path) for key, value in options.items()}
    arguments = {"inputs": [good], "tokenizer": tokenizer_folder, "out": tmp_path / "out", "workers": 1, **named}
    with pytest.raises(UserError, match=sentence):
        corpus.build(**arguments)
    assert digests(good) == before


def filled(value, tmp_path: Path):
    if isinstance(value, list):
        return [filled(each, tmp_path) for each in value]
    return value.format(tmp=tmp_path) if isinstance(value, str) else value


def test_a_holdout_that_was_too_large_can_be_corrected(tmp_path, good, tokenizer_folder):
    with pytest.raises(UserError):
        corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, holdout=6, workers=1)
    listener = Notes()
    manifest = corpus.build(
        [good], tmp_path / "out", tokenizer=tokenizer_folder, holdout=5, listener=listener, workers=1
    )
    assert manifest["rows"] == {"train": 1, "holdout": 5}
    assert "resuming: 2 of 2 sources are done already" in listener.notes


# Output folders


def test_the_same_corpus_is_left_alone(tmp_path, good, tokenizer_folder):
    first = corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    listener = Notes()
    assert corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, listener=listener, workers=2) == first
    assert ["already built" in note for note in listener.notes] == [True]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == stamps


@pytest.mark.parametrize(
    "change", [{"max_length": 20}, {"holdout": 2}, {"require_abstract": True}, {"overflow": "keep"}]
)
def test_another_corpus_is_not_touched(tmp_path, good, tokenizer_folder, change):
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    before = digests(tmp_path / "out")
    with pytest.raises(UserError, match="holds a finished corpus of other sources or settings"):
        corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, **{"workers": 1, **change})
    with pytest.raises(UserError, match="holds a finished corpus of other sources or settings"):
        corpus.build([good / "good2.xml.gz"], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    assert digests(tmp_path / "out") == before


def test_an_unfinished_corpus_resumes_only_with_its_own_settings(tmp_path, good, tokenizer_folder):
    with pytest.raises(KeyboardInterrupt):
        corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, listener=Interrupt(after=1), workers=1)
    with pytest.raises(UserError, match="not finished"):
        corpus.open(tmp_path / "out")
    with pytest.raises(UserError, match=r"unfinished corpus of other settings \(max_length\)"):
        corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, max_length=30, workers=1)
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    corpus.build([good], tmp_path / "straight", tokenizer=tokenizer_folder, workers=1)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_a_folder_that_is_not_a_corpus_cannot_be_opened(tmp_path, good, tokenizer_folder):
    with pytest.raises(UserError, match="no corpus here"):
        corpus.open(good)
    with pytest.raises(UserError, match="no such folder"):
        corpus.manifest(tmp_path / "nowhere")
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, holdout=2, workers=1)
    shard = tmp_path / "out" / "holdout-00000.arrow"
    whole = shard.read_bytes()
    for damage in (whole[: len(whole) // 2], b"x" * 200, b""):
        shard.write_bytes(damage)
        with pytest.raises(UserError, match=r"a shard of holdout is missing or damaged|holdout has"):
            corpus.open(tmp_path / "out")
    shard.unlink()
    for reads in (corpus.open, corpus.manifest):
        with pytest.raises(UserError, match="a shard of holdout is missing or damaged"):
            reads(tmp_path / "out")
    for text in ("{", "[]", '{"format_version": 99}', "[" * 9999):
        write(tmp_path / "out" / "manifest.json", text)
        with pytest.raises(UserError, match=r"not a .*manifest"):
            corpus.tokenizer(tmp_path / "out")


@pytest.mark.parametrize("damage", [b"\x08\x00" * 8, b"\xff" * 16])
def test_a_shard_that_is_not_as_it_was_written_is_refused(tmp_path, good, tokenizer_folder, damage):
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    whole = corpus.open(tmp_path / "out")["train"]["input_ids"][:]
    shard = tmp_path / "out" / "train-00000.arrow"
    content = shard.read_bytes()
    at = content.index(np.array(whole[0], dtype=np.uint16).tobytes())
    shard.write_bytes(content[:at] + damage + content[at + len(damage) :])
    sentence = r"a shard of train is missing or damaged \(train-00000\.arrow\); delete the folder"
    with pytest.raises(UserError, match=sentence):
        corpus.open(tmp_path / "out")
    with pytest.raises(UserError, match=sentence):
        corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)


def test_a_tokenizer_that_did_not_make_the_rows_is_refused(tmp_path, good, tokenizer_folder):
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder)
    file = tmp_path / "out" / "tokenizer" / "tokenizer.json"
    changed = json.loads(file.read_text())
    vocabulary = changed["model"]["vocab"]
    vocabulary["aspirin"], vocabulary["the"] = vocabulary["the"], vocabulary["aspirin"]
    file.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"tokenizer/tokenizer\.json is not what made its rows; delete the folder"):
        corpus.open(tmp_path / "out")


def test_shards_that_were_found_whole_are_read_again_only_where_they_changed(
    tmp_path, good, tokenizer_folder, monkeypatch
):
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, holdout=2, workers=1)
    read = []
    monkeypatch.setattr(reading, "file_digest", lambda path: read.append(path.name) or file_digest(path))
    for _ in range(2):
        corpus.open(tmp_path / "out")
    assert read == ["train-00000.arrow", "holdout-00000.arrow", "tokenizer.json"]
    os.utime(tmp_path / "out" / "train-00000.arrow", ns=(1, 1))
    corpus.open(tmp_path / "out")
    assert len(read) == 6


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"settings": {}}, "settings.max_length"),
        ({"tokenizer": None}, "tokenizer"),
        ({"rows": "x"}, "rows"),
        ({"rows": {"train": 0, "holdout": 0}}, "rows.train"),
        ({"counts": {}}, "counts.read"),
        ({"sha256": []}, "sha256"),
    ],
)
def test_a_manifest_that_is_not_whole_is_refused(cli, tmp_path, good, tokenizer_folder, change, place):
    made = corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    write(tmp_path / "out" / "manifest.json", json.dumps(made | change))
    one_sentence(cli("corpus", "stats", tmp_path / "out"), f"not a whole manifest, its {place} is missing")


def test_a_manifest_without_shards_is_refused(tmp_path, good, tokenizer_folder):
    made = corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    write(tmp_path / "out" / "manifest.json", json.dumps(made | {"sha256": {}}))
    with pytest.raises(UserError, match="a shard of train is missing"):
        corpus.open(tmp_path / "out")


# The machine


LIMITED = """
import json, resource, sys
from compactbio import corpus

inputs, tokenizer, out, workers, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
try:
    corpus.build([inputs], out, tokenizer=tokenizer, workers=int(workers))
except OSError as error:
    print(json.dumps([type(error).__name__, error.errno]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_an_oserror_with_its_number_and_keeps_what_was_done(tmp_path, tokenizer_folder, workers):
    for at in range(3):
        write(tmp_path / "in" / f"{at}.jsonl", json_lines(abstracts(100 + 400 * at, 10_000 * at)))
    out = tmp_path / "out"
    given = map(str, (tmp_path / "in", tokenizer_folder, out, workers, 40_000))
    done = forked.run([sys.executable, "-c", LIMITED, *given], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["OSError", errno.EFBIG], done.stderr
    assert not (out / "manifest.json").exists()
    assert not [path for path in out.rglob("*.arrow") if path.stat().st_size >= 40_000]
    corpus.build([tmp_path / "in"], out, tokenizer=tokenizer_folder, workers=1)
    corpus.build([tmp_path / "in"], tmp_path / "straight", tokenizer=tokenizer_folder, workers=1)
    assert digests(out) == digests(tmp_path / "straight")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_right_to_write(tmp_path, good, tokenizer_folder):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        corpus.build([good], tmp_path / "locked" / "out", tokenizer=tokenizer_folder, workers=1)


def test_a_worker_that_dies_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"A worker process died, .*fewer workers"):
        list(unordered_results(os._exit, [1, 1], 2, lambda: None))


COMMAND = "from compactbio.cli.corpus import app\nif __name__ == '__main__':\n    app()\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_the_workers_and_says_how_to_resume(tmp_path, tokenizer_folder, workers):
    for at in range(6):
        write(tmp_path / "in" / f"{at}.jsonl", json_lines(abstracts(600, 600 * at)))
    script, out = write(tmp_path / "run.py", COMMAND), tmp_path / "out"
    command = [sys.executable, script, "build", tmp_path / "in", "--tokenizer", tokenizer_folder, "--out", out]
    errors = tmp_path / "errors"
    process = subprocess.Popen(
        [*command, "--workers", workers],
        stderr=errors.open("w"),
        start_new_session=True,
        # A shell's background job ignores SIGINT, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not [path for path in out.glob(".parts/*.json") if path.name != "build.json"]:
        assert process.poll() is None, errors.read_text()
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    helpers = children.read_text().split() if children.exists() else []
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    message = errors.read_text()
    assert "Run the same command again" in message and "Traceback" not in message
    wait_for_end(helpers)
    assert not (out / "manifest.json").exists()
    corpus.build([tmp_path / "in"], out, tokenizer=tokenizer_folder, workers=1)
    assert len(rows(out)) == 3_600


# The command


def test_the_command_prints_the_manifest(tmp_path, good, tokenizer_folder):
    arguments = [
        "build",
        str(good),
        "--tokenizer",
        str(tokenizer_folder),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    built = CliRunner().invoke(app, [*arguments, "--holdout", "2", "--json"])
    assert built.exit_code == 0
    assert json.loads(built.stdout) == corpus.manifest(tmp_path / "out")
    assert "reading citations: 2 of 2" in built.stderr
    again = CliRunner().invoke(app, [*arguments, "--holdout", "2"])
    assert again.exit_code == 0 and "already built" in again.stderr
    stats = CliRunner().invoke(app, ["stats", str(tmp_path / "out")])
    assert stats.exit_code == 0 and stats.stdout == again.stdout
    for words in ("records read", "4 rows", "2 rows", "rows by length in tokens", "█"):
        assert words in stats.stdout
    as_json = CliRunner().invoke(app, ["stats", str(tmp_path / "out"), "--json"])
    assert as_json.stdout == built.stdout


@pytest.mark.parametrize("command", ["build", "stats"])
def test_help_shows_an_example(command):
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0 and f"Example: compactbio corpus {command}" in " ".join(shown.stdout.split())


def test_help_loads_nothing_heavy():
    code = (
        "import sys, compactbio.cli.corpus; print({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_workers_import_nothing_heavy():
    code = (
        "import sys, compactbio.corpus.citation_rows, compactbio.corpus.deduplication; "
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_the_command_names_the_option_that_is_wrong(cli, tmp_path, good, tokenizer_folder):
    given = ("corpus", "build", good, "--tokenizer", tokenizer_folder, "--out", tmp_path / "out")
    one_sentence(
        cli(*given, "--workers", "0"), "workers is 0; it must be 1 or more, a whole number. (option --workers)"
    )
    one_sentence(cli(*given, "--max-length", "2"), "(option --max-length)")


def test_a_tokenizer_that_changed_is_another_corpus(tmp_path, good, tokenizer_folder):
    corpus.build([good], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    other = shutil.copytree(tokenizer_folder, tmp_path / "other")
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    write(other / "tokenizer.json", text.replace('"aspirin"', '"warfarin"'))
    with pytest.raises(UserError, match="other sources or settings"):
        corpus.build([good], tmp_path / "out", tokenizer=other, workers=1)


def test_of_two_copies_the_one_that_can_be_verified_counts(tmp_path, good, tokenizer_folder):
    copy = write(good / "copy" / "good2.xml.gz", b"")
    copy.write_bytes((good / "good2.xml.gz").read_bytes())
    write(good / "copy" / "good2.xml.gz.md5", "0" * 32)
    for at, order in enumerate(([good, copy], [copy, good])):
        manifest = corpus.build(order, tmp_path / str(at), tokenizer=tokenizer_folder, workers=1)
        assert not manifest["failed_sources"] and manifest["counts"]["read"] == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_texts_that_the_vocabulary_does_not_fit_are_refused(tmp_path, tokenizer_folder, workers):
    """Capitals under a vocabulary without any, which keeps case."""
    cased = tmp_path / "cased"
    BertTokenizerFast(vocab=str(tokenizer_folder / "vocab.txt"), do_lower_case=False).save_pretrained(cased)
    write(tmp_path / "in" / "a.jsonl", json_lines([{**one, "title": one["title"].upper()} for one in abstracts(20)]))
    with pytest.raises(UserError, match=r"[0-9.]+% of the tokens are unknown to the vocabulary of cased"):
        corpus.build([tmp_path / "in"], tmp_path / "out", tokenizer=cased, workers=workers)
    made = corpus.build([tmp_path / "in"], tmp_path / "lowered", tokenizer=tokenizer_folder, workers=workers)
    # The place of the refused one is free for another.
    corpus.build([tmp_path / "in"], tmp_path / "out", tokenizer=tokenizer_folder, workers=workers)
    assert digests(tmp_path / "out") == digests(tmp_path / "lowered")
    rows = corpus.open(tmp_path / "lowered")["train"]["input_ids"]
    unknown = sum(row.count(corpus.tokenizer(tmp_path / "lowered").unk_token_id) for row in rows)
    assert made["unknown_share"] == unknown / sum(map(len, rows)) < 0.05
