"""`annotate`: every kind of input, every kind of output, killed and resumed, bad documents set aside."""

import gzip
import json
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import forked
from citation_files import article_set, record
from compactbio import formats
from compactbio.annotate import Annotator, shards
from compactbio.documents import Document, Span
from conftest import one_sentence

TEXT = "the patients of aspirin and daily lung cancer"
FAST = ("--runtime", "torch-fp32", "--workers", "1")


def annotate(cli, *arguments: object) -> None:
    """Run the command, which must not fail."""
    status, _, messages = cli("annotate", *arguments, *FAST)
    assert status == 0, messages


def mentions(path: Path, format: str | None = None) -> dict[str, list[str]]:
    """The texts of the mentions by document."""
    return {d.id: [d.text[s.start : s.end] for s in d.spans] for d in formats.read(path, format)}


def inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """The same text in a file of every format, and the id that it has there."""
    folder.mkdir()
    document = Document("7", TEXT, (Span(0, 3, "Old"),))
    files = {
        "xml": (folder / "a.xml", article_set(record(7, "The patients of aspirin", "and daily lung cancer"))),
        "citations": (
            folder / "b.jsonl",
            json.dumps({"pmid": 7, "title": "the patients of aspirin", "abstract": "and daily lung cancer"}),
        ),
        "texts": (folder / "c.jsonl", json.dumps({"id": 7, "text": TEXT, "source": "made up"})),
        "text": (folder / "d.txt", TEXT + "\n"),
    }  # fmt: skip
    for path, content in files.values():
        path.write_text(content)
    found = {name: (path, "7") for name, (path, _) in files.items()}
    found["text"] = (files["text"][0], "d.txt:1")
    (folder / "e.jsonl.gz").write_bytes(gzip.compress(files["citations"][1].encode()))
    found["gzip"] = (folder / "e.jsonl.gz", "7")
    for format, name in (("pubtator", "f.pubtator"), ("bioc", "g.xml"), ("jsonl", "h.jsonl"), ("brat", "brat")):
        formats.write([document], folder / name, format)
        found[format] = (folder / name, "7")
    return found


def test_every_format_is_read_and_its_annotations_are_dropped_unless_kept(cli, tagger, tmp_path):
    for name, (path, own) in inputs(tmp_path / "in").items():
        annotate(cli, "--model", tagger, path, "--out", tmp_path / f"{name}.jsonl")
        assert mentions(tmp_path / f"{name}.jsonl") == {own: ["aspirin", "lung cancer"]}, name
        annotate(cli, "--model", tagger, path, "--keep", "--out", tmp_path / f"{name}-kept.jsonl")
        kept = ["the"] if name in ("pubtator", "bioc", "jsonl", "brat") else []
        assert mentions(tmp_path / f"{name}-kept.jsonl") == {own: [*kept, "aspirin", "lung cancer"]}, name


@pytest.mark.parametrize(("name", "format"), [("a.jsonl", "jsonl"), ("a.xml", "bioc"), ("a.pubtator", "pubtator")])
def test_every_format_is_written(cli, tagger, tmp_path, name, format):
    source = tmp_path / "in.jsonl"
    source.write_text(
        json.dumps({"id": "7", "text": TEXT}) + "\n" + json.dumps({"id": "8", "text": "the group"}) + "\n"
    )
    annotate(cli, "--model", tagger, source, "--out", tmp_path / name)
    documents = list(formats.read(tmp_path / name))
    assert [(d.id, d.text) for d in documents] == [("7", TEXT), ("8", "the group")]
    spans = documents[0].spans
    assert [(s.start, s.end, s.type) for s in spans] == [(16, 23, "Drug"), (34, 45, "Drug")]
    if format != "pubtator":
        assert all(0.5 < s.score <= 1 for s in spans)


def test_brat_and_parquet_are_written(cli, tagger, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"id": "7", "text": TEXT}) + "\n")
    annotate(cli, "--model", tagger, source, "--format", "brat", "--out", tmp_path / "brat")
    assert mentions(tmp_path / "brat") == {"7": ["aspirin", "lung cancer"]}
    annotate(cli, "--model", tagger, source, "--out", tmp_path / "a.parquet")
    [row] = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (row["id"], row["text"]) == ("7", TEXT)
    assert [(e["text"], e["type"]) for e in row["entities"]] == [("aspirin", "Drug"), ("lung cancer", "Drug")]


def test_the_last_step_of_the_progress_is_said_once(cli, tagger, tmp_path):
    (tmp_path / "a.txt").write_text("aspirin\ninsulin\n")
    status, _, messages = cli("annotate", tmp_path / "a.txt", "--model", tagger, "--out", tmp_path / "a.jsonl", *FAST)
    assert status == 0 and len(re.findall("documents: 2 of 2", messages)) == 1


def test_fields_scores_and_standard_streams(cli, tagger, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"id": "7", "note": "aspirin", "text": "insulin"}) + "\n")
    annotate(cli, "--model", tagger, source, "--text-field", "note", "--out", tmp_path / "a.jsonl")
    assert mentions(tmp_path / "a.jsonl") == {"7": ["aspirin"]}
    annotate(cli, "--model", tagger, source, "--min-score", "1", "--out", tmp_path / "b.jsonl")
    assert mentions(tmp_path / "b.jsonl") == {"7": []}
    command = [sys.executable, "-m", "compactbio", "annotate", "--model", f"Thing={tagger}", "-", "--out", "-", *FAST]
    done = forked.run(command, input=b"insulin\n\xe2\x82\xac aspirin\n", capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [line["id"] for line in lines] == ["stdin:1", "stdin:2"] and lines[1]["spans"][0]["start"] == 2


def test_bad_documents_are_set_aside_with_their_reason_and_no_text(cli, tagger, tmp_path):
    good = json.dumps({"id": "1", "text": TEXT})
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        f'{good}\n{{"id": 2}}\nSECRET\n{{"id": 3, "text": 4}}\n{{"id": "4", "text": "\\ud800 SECRET"}}\n[1]\n'
    )
    (tmp_path / "cut.xml.gz").write_bytes(gzip.compress(article_set(record(5, "aspirin", "SECRET")).encode())[:-40])
    (tmp_path / "latin.txt").write_bytes(b"aspirin\nSECRET \xe4\n")
    broken = tmp_path / "broken.pubtator"
    broken.write_text("9|t|aspirin\n9|a|daily\n\n10\tSECRET\n")
    annotate(
        cli,
        "--model",
        tagger,
        bad,
        tmp_path / "cut.xml.gz",
        tmp_path / "latin.txt",
        broken,
        "--out",
        tmp_path / "a.jsonl",
    )
    found = mentions(tmp_path / "a.jsonl")
    assert (
        found["1"] == ["aspirin", "lung cancer"] and found["latin.txt:1"] == ["aspirin"] and found["9"] == ["aspirin"]
    )
    failed = (tmp_path / "a.jsonl.failed.jsonl").read_text()
    assert "SECRET" not in failed
    reasons = {(one["source"], one["reason"].split(";")[0][:22]) for one in map(json.loads, failed.splitlines())}
    assert ("bad.jsonl", "no abstract, title or ") in reasons or ("bad.jsonl", "no title, abstract or ") in reasons
    assert ("bad.jsonl", "not JSON") in reasons and ("bad.jsonl", "text holds half a surr") in reasons
    assert ("cut.xml.gz", "is truncated: the .gz ") in reasons
    assert any(source == "latin.txt" and "is not UTF-8: byte 0xe" in reason for source, reason in reasons)
    assert any(source == "broken.pubtator" for source, _ in reasons)


def test_of_a_chunk_that_cannot_be_annotated_only_the_document_at_fault_is_set_aside(tagger):
    class Stumbling(Annotator):
        def __call__(self, texts, **more):
            if any("stumble" in document.text for document in texts):
                raise ValueError("SECRET")
            return super().__call__(texts, **more)

    taggers = Annotator.from_pretrained(tagger, runtime="torch-fp32").taggers
    process = shards.Worker(Stumbling(taggers), shards.Settings((str(tagger),), ("torch-fp32",), 0.0, False, 1, 1))
    texts = ("aspirin", "stumble SECRET", "insulin")
    found = process([("a.txt", Document(str(i), text)) for i, text in enumerate(texts)])
    assert [span.start for one in found if isinstance(one, Document) for span in one.spans] == [0, 0]
    assert found[1] == shards.Failure("a.txt", "1", "could not be annotated (ValueError)")


def test_what_a_format_cannot_say_is_set_aside(cli, tagger, tmp_path):
    source = tmp_path / "in.jsonl"
    lines = [{"id": "1", "text": "aspirin"}, {"id": "2", "text": "aspirin \x00"}, {"id": "a/b", "text": "insulin"}]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    annotate(cli, "--model", tagger, source, "--out", tmp_path / "a.xml")
    assert set(mentions(tmp_path / "a.xml")) == {"1", "a/b"}
    assert "XML does not allow" in (tmp_path / "a.xml.failed.jsonl").read_text()
    annotate(cli, "--model", tagger, source, "--format", "brat", "--out", tmp_path / "brat")
    assert set(mentions(tmp_path / "brat")) == {"1", "2"}


def many(path: Path, count: int) -> None:
    """A file of many texts, all different."""
    words = ["patients", "aspirin", "daily", "lung cancer", "group", "insulin", "risk"]
    with path.open("w") as file:
        for i in range(count):
            text = " ".join(words[(i * k) % len(words)] for k in range(1, 3 + i % 9))
            file.write(json.dumps({"id": str(i), "text": text}) + "\n")


@pytest.mark.slow
def test_a_killed_run_resumes_and_gives_the_same_file(tagger, tmp_path):
    source, straight, killed = tmp_path / "in.jsonl", tmp_path / "straight.jsonl", tmp_path / "killed.jsonl"
    many(source, 1124)
    small = "from compactbio.annotate import shards; shards.SHARD_DOCUMENTS = 512"
    code = f"{small}; from compactbio.cli import main; main()"

    def command(out: Path, workers: int) -> list[str]:
        return [sys.executable, "-c", code, "annotate", "--model", str(tagger), str(source), "--out", str(out),
                "--runtime", "torch-fp32", "--workers", str(workers)]  # fmt: skip

    forked.run(command(straight, 1), check=True, capture_output=True)
    process = forked.Popen(command(killed, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = tmp_path / ".killed.jsonl.shards"
    deadline = time.monotonic() + 120
    while not (made / "000000-000000.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    done = forked.run(command(killed, 1), check=True, capture_output=True, text=True)
    assert "resuming: 512 documents" in done.stderr and not made.exists()
    assert re.search(r"documents: 1,124 of 1,124, [\d,]+/s", done.stderr), done.stderr
    assert killed.read_bytes() == straight.read_bytes()
    again = forked.run([*command(killed, 1), "--json"], check=True, capture_output=True, text=True)
    assert json.loads(again.stdout)["state"] == "already finished"
    assert len(killed.read_text().splitlines()) == 1124


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(tagger, tmp_path):
    code = (
        "import sys, resource\nfrom compactbio.annotate.files import annotate_files\n"
        "for source in sys.argv[2:]:\n"
        "    annotate_files([source], source + '.out.jsonl', models=[sys.argv[1]], runtime='torch-fp32', workers=1)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    sources = [tmp_path / "short.jsonl", tmp_path / "long.jsonl"]
    for source, shard_count in zip(sources, (1, 4), strict=True):
        many(source, shard_count * shards.SHARD_DOCUMENTS)
    command = [sys.executable, "-c", code, str(tagger), *map(str, sources)]
    before, after = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert after < 1.1 * before


LIMITED = """
import resource, signal
from compactbio.cli import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
main()
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes on this system")
def test_a_full_disk_leaves_nothing_under_the_final_name(tagger, tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "a.jsonl"
    many(source, 2000)
    arguments = ["annotate", "--model", str(tagger), str(source), "--out", str(out), *FAST]
    done = forked.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()[-1:]) == 1, done.stderr
    assert "larger than the system allows" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "a.jsonl").exists()


def test_what_a_user_can_fix_is_one_sentence(cli, tagger, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"id": "1", "text": TEXT}) + "\n")
    one_sentence(cli("annotate", "--model", tagger, source, "--out", tmp_path / "a.docx"), "shows no format")
    if not torch.cuda.is_available():
        given = ("annotate", "--model", tagger, source, "--out", tmp_path / "a.jsonl", "--device", "cuda")
        one_sentence(cli(*given), "no CUDA GPU")
    one_sentence(
        cli("annotate", "--model", tagger, tmp_path / "none.jsonl", "--out", tmp_path / "a.jsonl"), "no such file"
    )
    (tmp_path / "mine.jsonl").write_text("mine")
    one_sentence(
        cli("annotate", "--model", tagger, source, "--out", tmp_path / "mine.jsonl", *FAST),
        "is not the output of this run",
        "--out",
    )
    assert (tmp_path / "mine.jsonl").read_text() == "mine"
    (tmp_path / "bad.jsonl").write_text("{}\n")
    status, printed, messages = cli(
        "annotate", "--model", tagger, tmp_path / "bad.jsonl", "--out", tmp_path / "b.jsonl", *FAST
    )
    assert (status, printed) == (2, "") and "No document" in messages.splitlines()[-1]
    assert not (tmp_path / "b.jsonl").exists() and not (tmp_path / ".b.jsonl.shards").exists()
    assert not (tmp_path / "b.jsonl.run.json").exists()
