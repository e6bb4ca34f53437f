"""Runs of `annotate`: several in one process, exit statuses, pipes, every file read once, GPUs shared out."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import forked
from annotated_files import pair
from compactbio import Annotator, formats
from compactbio.annotate import files, shards
from compactbio.annotate.files import annotate_files, stream
from compactbio.documents import Document, Relation, Span
from compactbio.errors import UserError
from compactbio.modeling import hardware
from compactbio.processes import ordered_results
from compactbio.training import teaching
from compactbio.training.finetuning import finetune
from conftest import one_sentence
from interruptions import Notes
from task_data import ner_folder

FAST = ("--runtime", "torch-fp32", "--workers", "1")


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    return path


def test_two_streams_at_once_each_use_their_own_model(tagger, tmp_path):
    source = lines(tmp_path / "in.jsonl", ["aspirin", "insulin"] * 128)
    streams = [
        stream([source], models=[f"{kind}={tagger}"], runtime="torch-fp32", workers=1, min_score=score, keep=keep)
        for kind, score, keep in (("", 0.0, False), ("", 1.0, True))
    ]
    found = [0, 0]
    for pair_ in zip_longest(*streams):
        for i, one in enumerate(pair_):
            found[i] += len(one.spans)
    assert found == [2 * 128, 0]


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": "1"}\nSECRET\n')
    return path


def test_a_run_of_which_nothing_was_annotated_fails_in_one_sentence(cli, tagger, bad, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    for source, why in ((bad, "bad.jsonl line 1: no "), (empty, "No document in the inputs could be annotated.")):
        for out in ("-", tmp_path / "out.jsonl"):
            status, printed, messages = cli("annotate", "--model", tagger, source, "--out", out, *FAST)
            assert (status, printed) == (2, ""), messages
            last = messages.strip().splitlines()[-1]
            assert (
                last.startswith("No document in the inputs could be annotated")
                and why in last
                and "SECRET" not in messages
            )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "empty.txt"]


def test_a_run_of_which_something_was_annotated_says_how_much_was_not(cli, tagger, bad, tmp_path):
    with bad.open("a") as file:
        file.write('{"id": "3", "text": "aspirin"}\n{"id": "\\ud800", "text": "aspirin"}\n')
    status, printed, messages = cli("annotate", "--model", tagger, bad, "--out", "-", *FAST)
    assert status == 0 and [json.loads(line)["id"] for line in printed.splitlines()] == ["3"]
    assert messages.strip().splitlines()[-1] == "3 of 4 documents were set aside."
    status, printed, _ = cli("annotate", "--model", tagger, bad, "--out", tmp_path / "out.jsonl", *FAST)
    assert status == 0 and "set aside    3, see " in printed


def test_a_format_that_standard_output_does_not_take_is_refused_at_once(cli, bad):
    one_sentence(cli("annotate", bad, "--model", "no-model", "--out", "-", "--format", "bioc"), "jsonl only")


def test_a_reader_that_has_enough_ends_the_run_quietly_and_reads_utf8(tagger, tmp_path):
    source = lines(tmp_path / "in.jsonl", [f"the patients of \u20ac aspirin {i}" for i in range(3000)])
    command = [sys.executable, "-m", "compactbio", "annotate", "--model", str(tagger), str(source), "--out", "-", *FAST]
    ascii_terminal = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = forked.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ascii_terminal)
    assert "\u20ac" in json.loads(process.stdout.readline())["text"]
    process.stdout.close()
    assert process.stderr.read() == b"tagger on torch-fp32\n" and process.wait() == 0


def bytes_read() -> int:
    """What this process has read so far, whatever it read it from."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
def test_a_unit_is_read_once_however_many_parts_it_has(tmp_path):
    source = lines(tmp_path / "in.jsonl", ["the patients of aspirin " * 8] * (10 * shards.SHARD_DOCUMENTS + 1))
    [group] = shards.group_files([source])
    before = bytes_read()
    places = [place for place, _ in shards.read_shards(group, None)]
    assert bytes_read() - before < 1.5 * source.stat().st_size
    assert [place.number for place in places] == list(range(11)) and [p.number for p in places if p.last] == [10]


def test_small_files_are_read_together_and_large_ones_alone(tmp_path):
    sizes = [3 << 20, 6 << 20, 1 << 20, 1 << 20, 9 << 20, 0]
    files = [tmp_path / f"{i}.txt" for i in range(len(sizes))]
    for path, size in zip(files, sizes, strict=True):
        with path.open("wb") as file:
            file.truncate(size)
    assert [[path.name[0] for path in group.files] for group in shards.group_files(files)] == [
        ["0", "1"],
        ["2", "3", "4"],
        ["5"],
    ]
    folder = pair(tmp_path / "brat", "Zinc.", None)
    assert [group.bytes for group in shards.group_files([folder])] == [5]


def test_parts_end_by_documents_and_by_characters(tmp_path):
    source = lines(tmp_path / "in.jsonl", ["a" * 9_000_000] * 3 + ["b"])
    [*_, (last, entries)] = found = list(shards.read_shards(*shards.group_files([source]), None))
    assert [len(part) for _, part in found] == [2, 2] and last.last and entries[-1][1].text == "b"
    empty = lines(tmp_path / "empty.jsonl", [])
    assert list(shards.read_shards(*shards.group_files([empty]), None)) == [(shards.Shard(0, 0, True), [])]


def test_long_documents_are_annotated_in_batches_of_fewer():
    entries = [("a", Document(str(i), "b" * (400_000 if i == 5 else 50_000 if i < 9 else 1_500))) for i in range(300)]
    found = list(shards.batches_of(iter(entries), 128))
    assert [entry for batch in found for entry in batch] == entries
    assert [len(batch) for batch in found] == [6, 74, 128, 92]
    assert list(shards.batches_of([], 128)) == [[]]


class Stopping(Notes):
    """Presses Ctrl-C when so many documents are done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.counts = after, []

    def step(self, stage: str, done: int, total: int) -> None:
        self.counts.append((done, total))
        if done > self.after:
            raise KeyboardInterrupt


def test_a_stopped_run_resumes_behind_the_files_and_parts_that_are_finished(tagger, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_GROUP_BYTES", 1)  # each of these small files alone
    monkeypatch.setattr(shards, "SHARD_DOCUMENTS", 40)
    sources = [lines(tmp_path / f"{i}.jsonl", [f"aspirin {i} {n}" for n in range(100)]) for i in range(3)]
    given = {"runtime": "torch-fp32", "workers": 1}
    straight, stopped = tmp_path / "straight.jsonl", tmp_path / "stopped.jsonl"
    annotate_files(sources, straight, models=tagger, **given)
    with pytest.raises(KeyboardInterrupt):
        annotate_files(sources, stopped, models=tagger, listener=Stopping(200), **given)
    made = tmp_path / ".stopped.jsonl.shards"
    names = [f"00000{unit}-00000{n}{'.last' * (n == 2)}.jsonl" for unit in range(2) for n in range(3)]
    assert sorted(path.name for path in made.glob("*-*")) == names
    (made / names[4]).unlink()  # as of a worker that was lost
    stamps = {path: path.stat().st_mtime_ns for path in made.glob("*-*")}
    listener = Stopping(10_000)
    with pytest.raises(KeyboardInterrupt):
        annotate_files(sources, stopped, models=tagger, listener=Stopping(240), **given)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    annotate_files(sources, stopped, models=tagger, listener=listener, **given)
    assert any(note.startswith("resuming: ") for note in listener.notes)
    assert listener.counts[-1] == (300, 300) and not made.exists()
    assert stopped.read_bytes() == straight.read_bytes()


def test_what_cannot_be_written_is_set_aside_with_its_file_and_place(tagger, tmp_path):
    sources = [lines(tmp_path / f"{i}.jsonl", ["aspirin", "breast\ncancer"]) for i in range(2)]
    annotate_files(sources, tmp_path / "out.pubtator", models=tagger, runtime="torch-fp32", workers=1)
    found = [json.loads(line) for line in (tmp_path / "out.pubtator.failed.jsonl").read_text().splitlines()]
    assert [(one["source"], one["place"]) for one in found] == [("0.jsonl", "1"), ("1.jsonl", "1")]


def test_several_models_without_types_are_refused(start, tmp_path):
    source, models = lines(tmp_path / "in.jsonl", ["aspirin"]), []
    for name in ("a", "b"):
        data = ner_folder(tmp_path / "data" / name, {"train": 8, "devel": 4})
        models.append(finetune(data, start, tmp_path / name, overrides={"epochs": 1}).out)
    words = "a and b find mentions without a type"
    with pytest.raises(UserError, match=words):
        annotate_files(source, tmp_path / "out.jsonl", models=models, runtime="torch-fp32", workers=1)
    with pytest.raises(UserError, match=words):
        Annotator.from_pretrained(*models)
    assert [one.types for one in Annotator.from_pretrained(f"Drug={models[0]}", models[1]).taggers] == [["Drug"], [""]]


def test_how_many_documents_of_large_files_are_left_is_known_from_the_first(tagger, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_QUICKLY_COUNTED", 1)
    monkeypatch.setattr(shards, "_GROUP_BYTES", 1)
    sources = [lines(tmp_path / f"{i}.jsonl", [f"aspirin {n:03}" for n in range(100, 300)]) for i in range(3)]
    listener = Stopping(10_000)
    annotate_files(sources, tmp_path / "out.jsonl", models=tagger, runtime="torch-fp32", workers=1, listener=listener)
    assert listener.counts[0][0] == 128
    assert {total for _, total in listener.counts} == {600}


def test_an_output_of_another_tokenizer_is_not_taken_and_old_records_name_none(tagger, tmp_path):
    model, out = Path(shutil.copytree(tagger, tmp_path / "tagger")), tmp_path / "out.jsonl"
    source = lines(tmp_path / "in.jsonl", ["Aspirin", "insulin"])

    def annotated():
        return annotate_files(source, out, models=model, runtime="torch-fp32", workers=1).state

    assert [annotated(), annotated()] == ["finished", "already finished"]
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    with pytest.raises(UserError, match=r"out\.jsonl exists and is not the output of this run"):
        annotated()
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    del record["identity"]["tokenizers"]
    (tmp_path / "out.jsonl.run.json").write_text(json.dumps(record))
    assert annotated() == "already finished"


def test_a_run_that_died_after_its_output_was_written_ends_when_it_is_run_again(cli, tagger, tmp_path):
    source = lines(tmp_path / "in.jsonl", ["aspirin", "insulin"])
    for format in ("jsonl", "brat"):
        out = tmp_path / f"out.{format}"
        given = ("annotate", "--model", tagger, source, "--out", out, "--format", format, *FAST, "--json")
        record = tmp_path / f"out.{format}.run.json"
        record.mkdir()  # so that the run dies just there
        assert cli(*given)[0] == 2 and out.exists()
        record.rmdir()
        status, printed, messages = cli(*given)
        assert status == 0, messages
        assert json.loads(printed)["state"] == "finished" and json.loads(printed)["documents"] == 2
        assert len(list(formats.read(out))) == 2


def test_brat_ids_that_one_file_system_takes_for_one_are_set_aside(cli, tagger, tmp_path):
    source = tmp_path / "in.jsonl"
    names = ["a", "A", "\u00e9", "e\u0301", "b", "..", "\u00e9" * 120]
    source.write_text("".join(json.dumps({"id": name, "text": "aspirin"}) + "\n" for name in names))
    status, printed, messages = cli(
        "annotate", "--model", tagger, source, "--out", tmp_path / "brat", "--format", "brat", *FAST
    )
    assert status == 0 and "set aside    4" in printed, messages
    assert {document.id for document in formats.read(tmp_path / "brat")} == {"a", "\u00e9", "b"}


def test_a_table_sets_aside_what_it_has_no_column_for(cli, tagger, tmp_path):
    spans = (Span(0, 7, "Drug"), Span(8, 15, "Drug"))
    text = "aspirin insulin"
    documents = [Document("1", text, spans), Document("2", text, spans, (Relation(0, 1, "with"),)),
                 Document("3", text, (Span(0, 15, "Drug", "", ((0, 7), (8, 15))),))]  # fmt: skip
    formats.write(documents, tmp_path / "in.jsonl", "jsonl")
    status, printed, _ = cli(
        "annotate", "--model", tagger, tmp_path / "in.jsonl", "--keep", "--out", tmp_path / "a.parquet", *FAST
    )
    assert status == 0 and "set aside    2" in printed
    assert pq.read_table(tmp_path / "a.parquet").column("id").to_pylist() == ["1"]
    assert "it has relations" in (tmp_path / "a.parquet.failed.jsonl").read_text()


def test_a_mention_that_was_there_and_is_found_is_kept_once(tagger, tmp_path):
    """With its concept; of another type or in several parts it is another mention. Two models count it once too."""
    kept = [(Span(0, 7, "drug", "D1"), Span(8, 15, "Gene")), (Span(0, 15, "Drug", "", ((0, 7), (8, 15))),)]
    documents = [Document(str(place), "aspirin insulin", spans) for place, spans in enumerate(kept)]
    formats.write(documents, tmp_path / "in.jsonl", "jsonl")
    given = {"models": [tagger, tagger], "runtime": "torch-fp32", "workers": 1}
    result = annotate_files(tmp_path / "in.jsonl", tmp_path / "out.jsonl", keep=True, **given)
    first, second = formats.read(tmp_path / "out.jsonl")
    assert first.spans[:2] == kept[0] and [(s.start, s.type) for s in first.spans[2:]] == [(8, "Drug")]
    assert [(s.start, s.end) for s in second.spans] == [(0, 15), (0, 7), (8, 15)]
    assert result.entities == {"Drug": 4, "Gene": 1, "drug": 1}


@pytest.mark.parametrize("kind", ["annotators", "teachers"])
def test_each_worker_process_has_a_gpu_of_its_own(kind, tagger, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa,GPU-bb,5")
    devices = hardware.gpu_names(3, os.environ["CUDA_VISIBLE_DEVICES"])
    given = {
        "annotators": (
            shards.start_worker,
            shards.Settings((str(tagger),), ("torch-fp32",), 0.0, False, 1, 2, gpus=devices),
        ),
        "teachers": (teaching._start, teaching.Work((), tmp_path, "cpu", 1, devices)),
    }[kind]
    found = set(ordered_results(_pinned, given, range(12), 2))
    assert found <= {(0, "GPU-aa"), (1, "GPU-bb")} and len(found) >= 1
    assert set(ordered_results(_pinned, given, range(3), 1)) == {(None, "GPU-aa,GPU-bb,5")}


class _Pinned:
    def __init__(self, number: int | None) -> None:
        self.number = number

    def __call__(self, task: int) -> tuple[int | None, str | None]:
        return self.number, os.environ.get("CUDA_VISIBLE_DEVICES")


def _pinned(number: int | None, start: Callable[..., object], given: object) -> _Pinned:
    start(number, given)
    return _Pinned(number)


@pytest.mark.parametrize(
    ("count", "visible", "names"),
    [(2, None, ("0", "1")), (2, "4, 7", ("4", "7")), (1, "MIG-1,-1,3", ("MIG-1",)), (0, "", ()), (0, None, ())],
)
def test_gpus_have_the_names_that_a_worker_is_given(count, visible, names):
    assert hardware.gpu_names(count, visible) == names


def test_a_refused_run_does_not_block_its_output(tagger, tmp_path):
    """Also where it was refused in a worker, after its folder was made."""
    source, out = lines(tmp_path / "in.jsonl", ["aspirin"]), tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=r"export the model, or take one of torch-fp32"):
        annotate_files([source], out, models=tagger, runtime="onnx-fp32", workers=1)
    result = annotate_files([source], out, models=tagger, runtime="torch-fp32", workers=1)
    assert result.documents == 1 and not list(tmp_path.glob(".*"))


def test_workers_that_are_none_are_refused(tagger, tmp_path):
    source = lines(tmp_path / "in.jsonl", ["aspirin"])
    with pytest.raises(UserError, match="must be 1 or more"):
        annotate_files([source], tmp_path / "out.jsonl", models=tagger, workers=0)


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found, level = [], {process}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += level
    return found


def actors(process: int) -> list[int]:
    """The processes of a run on a cluster that annotate."""
    named = ((one, Path(f"/proc/{one}/cmdline")) for one in descendants(process))
    return [one for one, path in named if path.exists() and b"_Actor" in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the workers of the cluster are found by /proc")
def test_two_workers_of_a_cluster_give_the_file_of_one_process_though_one_of_them_is_killed(
    tagger, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(shards, "SHARD_DOCUMENTS", 512)
    small = "from compactbio.annotate import shards; shards.SHARD_DOCUMENTS = 512"
    texts = [f"the {'risk ' * (i % 7)}of aspirin {i}" for i in range(2 * shards.SHARD_DOCUMENTS + 1)]
    sources = [lines(tmp_path / "a.jsonl", texts), lines(tmp_path / "b.jsonl", texts[50:]), tmp_path / "cut.jsonl.gz"]
    sources[2].write_bytes(gzip.compress(sources[0].read_bytes())[:-400])
    straight, out = tmp_path / "straight.jsonl", tmp_path / "out.jsonl"
    annotate_files(sources, straight, models=tagger, runtime="torch-fp32", workers=1)
    code = f"{small}; from compactbio.cli import main; main()"
    command = [sys.executable, "-c", code, "annotate", "--model", str(tagger), *map(str, sources)]
    command += ["--out", str(out), "--runtime", "torch-fp32", "--workers", "2", "--cluster"]
    process = forked.Popen(command, stdout=subprocess.DEVNULL, stderr=(tmp_path / "errors").open("w"))
    made = tmp_path / ".out.jsonl.shards"
    while not (finished := sorted(made.glob("*-*.jsonl"))):
        assert process.poll() is None, (tmp_path / "errors").read_text()
        time.sleep(0.01)
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    killed = actors(process.pid)[:1]
    for one in killed:
        os.kill(one, signal.SIGKILL)
    assert killed and len(finished) < 7, "it had ended before a worker could be killed"
    kept = {}
    while process.poll() is None:
        kept |= {path: path.stat().st_mtime_ns for path in stamps if path.exists()}
        time.sleep(0.01)
    assert process.returncode == 0, (tmp_path / "errors").read_text()
    assert kept == stamps and out.read_bytes() == straight.read_bytes()
    left_out = ".jsonl.failed.jsonl"
    assert (tmp_path / f"out{left_out}").read_text() == (tmp_path / f"straight{left_out}").read_text()


@pytest.mark.parametrize(("closed", "inputs", "out"), [("stdin", "-", "a.jsonl"), ("stdout", "a.txt", "-")])
def test_a_closed_stream_is_one_sentence(cli, tagger, tmp_path, monkeypatch, closed, inputs, out):
    (tmp_path / "a.txt").write_text("aspirin\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"sys.{closed}", None)
    status, _, messages = cli("annotate", inputs, "--model", tagger, "--out", out, *FAST)
    assert status == 2 and messages.strip().endswith("is closed: name files.")


@pytest.mark.parametrize("out", ["texts/found.jsonl", "texts/deep/found.jsonl", "texts/a.jsonl", "other.jsonl"])
def test_an_output_that_a_next_run_would_read_is_refused(cli, tagger, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    for place in ("texts/a.jsonl", "other.jsonl"):
        (tmp_path / place).write_text('{"id": "1", "text": "aspirin for cancer"}\n')
    before = sorted(tmp_path.rglob("*"))
    status, _, messages = cli("annotate", "texts", "other.jsonl", "--model", tagger, "--out", out, *FAST)
    assert (status, len(messages.strip().splitlines())) == (2, 1) and "read as data" in messages
    assert sorted(tmp_path.rglob("*")) == before
