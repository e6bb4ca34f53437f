"""One run at a time writes an output, whatever ends it; and what a dead one was writing is cleaned up."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compactbio import corpus
from compactbio.errors import UserError
from compactbio.files import locked, write_text
from conftest import command, one_sentence
from task_data import ner_folder, start_folder

HOLD = """
import sys
from pathlib import Path
from compactbio.files import atomic_file, locked
with locked(Path(sys.argv[1])), atomic_file(Path(sys.argv[2])) as partial:
    partial.write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that writes an output until it is let go or killed."""

    def __init__(self, out: Path, writes: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(out), str(writes or out)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self) -> "Holder":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder / "out"


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_second_process_is_refused_until_the_first_has_ended(out):
    with Holder(out) as holder:
        with pytest.raises(UserError, match=r"outputs/out: another run is writing it"), locked(out):
            pass
        (out.parent.parent / "link").symlink_to(out.parent)
        with pytest.raises(UserError, match="another run"), locked(out.parent.parent / "link" / "out"):
            pass
        with locked(out.with_name("other")):
            pass
        holder.process.communicate("", timeout=60)
    assert out.read_text() == "half" and hidden(out.parent) == []
    with locked(out):
        assert hidden(out.parent) == [".out.lock"]


def test_a_killed_process_leaves_no_lock_and_what_it_wrote_is_removed(out):
    out.mkdir()
    with Holder(out, out / "table") as holder:
        holder.process.send_signal(signal.SIGKILL)
        holder.process.wait()
        assert len(hidden(out)) == 1 and not (out / "table").exists()
        with locked(out):
            assert hidden(out) == []
    assert list(out.parent.iterdir()) == [out]


def test_what_a_living_process_is_writing_is_left_to_it(out):
    out.mkdir()
    with Holder(out.with_name("elsewhere"), out / "table") as holder:
        with locked(out):
            assert len(hidden(out)) == 1
        write_text(out / "table", "whole")
        holder.process.communicate("", timeout=60)
        assert holder.process.returncode == 0
    assert (out / "table").read_text() == "half" and hidden(out) == []


def test_a_lock_where_nothing_may_be_written_beside_the_output(out):
    out.mkdir()
    if os.getuid() == 0:
        # Root may write everywhere but into /proc.
        place = Path("/proc") / "compactbio-output"
    else:
        out.parent.chmod(0o555)
        place = out
    try:
        with locked(place), pytest.raises(UserError, match="another run"), locked(place):
            pass
    finally:
        out.parent.chmod(0o755)


def test_threads_are_runs_of_their_own(out):
    with locked(out), pytest.raises(UserError, match="another run"), locked(out):
        pass
    with locked(out):
        pass


def commands_of(out, tagger, tokenizer_folder, token_corpus, teacher_folder, tmp_path) -> dict[str, tuple]:
    """Every command that writes, by name, with `out` as its output."""
    data = ner_folder(tmp_path / "data", {"train": 20, "devel": 5, "test": 5})
    start = start_folder(tmp_path / "start", tokenizer_folder)
    source = tmp_path / "in.jsonl"
    source.write_text('{"pmid": "1", "title": "Aspirin in rats."}\n')
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"models": {"a": str(start)}, "data": {"b": str(data)}, "seeds": [0]}))
    return {
        "corpus": ("corpus", "build", source, "--tokenizer", tokenizer_folder, "--out", out),
        "train": command(out, token_corpus, teacher_folder)[3:],
        "finetune": ("finetune", data, "--model", start, "--out", out),
        "search": ("finetune", data, "--model", start, "--out", out, "--search"),
        "compare": ("compare", suite, "--out", out),
        "export": ("export", tagger, "--out", out),
        "evaluate": ("evaluate", data, "--model", tagger, "--write-predictions", f"{out}.tsv"),
        "annotate": (
            "annotate",
            "--model",
            tagger,
            source,
            "--out",
            out,
            "--format",
            "jsonl",
            "--runtime",
            "torch-fp32",
        ),
        "demo": ("demo", "--out", out),
    }


def test_every_command_refuses_an_output_that_another_run_writes(cli, out, tagger, tokenizer_folder, token_corpus,
                                                                 teacher_folder, tmp_path):  # fmt: skip
    commands = commands_of(out, tagger, tokenizer_folder, token_corpus, teacher_folder, tmp_path)
    with Holder(out), Holder(Path(f"{out}.tsv")):
        for name, arguments in commands.items():
            status, printed, messages = cli(*arguments)
            assert (status, printed) == (2, ""), (name, messages)
            assert "another run is writing it" in messages.strip().splitlines()[-1], (name, messages)
            assert "Traceback" not in messages
            assert not out.exists(), name
    # Not only a word: afterwards the same command does its work, and leaves nothing hidden behind.
    assert cli(*commands["corpus"])[0] == 0
    assert hidden(out) == [] and ".out.lock" not in hidden(out.parent)


def test_an_output_without_a_name_or_that_is_a_link_to_nothing_is_one_sentence(
    cli, tagger, tokenizer_folder, token_corpus, teacher_folder, tmp_path
):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    for out, words in ((Path("/"), r"has no name of its own|the same place or holds it"), (link, "leads nowhere")):
        place = tmp_path / words[:5]
        place.mkdir()
        commands = commands_of(out, tagger, tokenizer_folder, token_corpus, teacher_folder, place)
        # These write a file, or see it late.
        others = {"evaluate", *({"annotate", "compare", "export"} if out == link else ())}
        for name in (name for name in commands if name not in others):
            status, printed, messages = cli(*commands[name])
            assert (status, printed) == (2, ""), (name, messages)
            assert re.search(words, messages.strip().splitlines()[-1]) and "Traceback" not in messages, (name, messages)


def test_a_run_that_died_before_its_first_file_can_begin_again(cli, out, tmp_path, tokenizer_folder):
    data = ner_folder(tmp_path / "data", {"train": 20, "devel": 5, "test": 5})
    start = start_folder(tmp_path / "start", tokenizer_folder)
    out.mkdir()
    with Holder(out, out / "run.json"):
        pass
    given = ("finetune", data, "--model", start, "--out", out, "--set", "epochs=1", "--set", "max_length=32")
    status, _, messages = cli(*given)
    assert status == 0, messages


def test_two_corpora_at_one_path_are_made_by_their_own_tokenizers(tmp_path, tokenizer_folder):
    from transformers import BertTokenizerFast

    vocabulary = (tokenizer_folder / "vocab.txt").read_text().split("\n")
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join([*vocabulary[:5], *reversed([one for one in vocabulary[5:] if one])]) + "\n")
    BertTokenizerFast(vocab=str(other), do_lower_case=True).save_pretrained(tmp_path / "other")
    source = tmp_path / "in.jsonl"
    source.write_text('{"pmid": "1", "title": "Aspirin in rats."}\n')
    rows = []
    for tokenizer, name in ((tokenizer_folder, "out"), (tmp_path / "other", "out"), (tmp_path / "other", "fresh")):
        corpus.build([source], tmp_path / name, tokenizer=tokenizer, workers=1)
        rows.append(corpus.open(tmp_path / name)["train"][0]["input_ids"])
        if name == "out":
            (tmp_path / name).rename(tmp_path / f"moved-{len(rows)}")
    assert rows[0] != rows[1] == rows[2]


EVENTS = """
import os, sys
from pathlib import Path
from compactbio.files import atomic_folder, write_text
events = []
sys.addaudithook(lambda name, given: events.append((name, str(given[0]))) if name in ("os.rename", "open") else None)
out = Path(sys.argv[1])
write_text(out / "file", "x")
with atomic_folder(out / "folder") as partial:
    (partial / "inner").mkdir()
    (partial / "inner" / "file").write_text("y")
after = {}
for at, (name, place) in enumerate(events):
    if name == "os.rename":
        after[place.rsplit("/", 1)[1].split(".")[1]] = [p for n, p in events[at + 1 : at + 3] if n == "open"]
        before = [p.rsplit(".partial", 1)[1] for n, p in events[:at] if n == "open" and ".partial" in p]
assert after == {"file": [str(out)] * 1 + after["file"][1:], "folder": [str(out)]}, after
assert after["file"][0] == str(out)
assert {"/inner", "/inner/file", ""} <= set(before), before
"""


def test_names_are_on_disk_before_a_write_returns(tmp_path):
    done = subprocess.run([sys.executable, "-c", EVENTS, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_two_processes_write_one_file_without_meeting(out):
    with Holder(out.with_name("a"), out), Holder(out.with_name("b"), out) as second:
        write_text(out, "third")
        assert out.read_text() == "third"
        second.process.communicate("", timeout=60)
        assert out.read_text() == "half"


def test_a_name_that_is_too_long_is_one_sentence(cli, tmp_path, tokenizer_folder):
    source = tmp_path / "in.jsonl"
    source.write_text('{"pmid": "1", "title": "Aspirin in rats."}\n')
    for length in (240, 300):
        given = ("corpus", "build", source, "--tokenizer", tokenizer_folder, "--out", tmp_path / ("a" * length))
        status, _, messages = cli(*given)
        if length == 300:
            one_sentence((status, "", messages), "longer than the file system takes")


def test_a_lock_where_the_file_system_has_none(out, monkeypatch):
    """A Lustre that is mounted without flock."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "not implemented")))
    for _ in range(2):
        with locked(out), pytest.raises(UserError, match="another run"), locked(out):
            pass
    assert not list(out.parent.glob(".*.lock"))
