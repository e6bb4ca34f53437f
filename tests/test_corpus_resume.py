"""A build that was killed resumes, leaves no process behind, and gives the bytes of one that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from citation_files import abstracts, digests, json_lines, write
from compactbio import corpus
from compactbio.corpus import building
from compactbio.modeling.tokenizers import load_tokenizer
from interruptions import Interrupt, Notes, wait_for_end

RUN = """
import sys
from compactbio import corpus
if __name__ == "__main__":
    inputs, tokenizer, out, workers = sys.argv[1:]
    corpus.build([inputs], out, tokenizer=tokenizer, holdout=50, workers=int(workers))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_resumes_and_gives_the_same_bytes(tmp_path, tokenizer_folder, workers):
    for at in range(8):
        write(tmp_path / "in" / f"{at}.jsonl", json_lines(abstracts(800, 800 * at)))
    corpus.build([tmp_path / "in"], tmp_path / "straight", tokenizer=tokenizer_folder, holdout=50, workers=1)
    script = write(tmp_path / "run.py", RUN)
    out = tmp_path / "killed"
    command = [sys.executable, script, tmp_path / "in", tokenizer_folder, out, str(workers)]
    # Not a pipe: workers that outlived the run would hold it open, and the test would wait instead of failing.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(tmp_path / "errors").open("w"))
    while not (made := [path for path in out.glob(".parts/*.json") if path.name != "build.json"]):
        assert process.poll() is None, (tmp_path / "errors").read_text()
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers_of_it = children.read_text().split() if children.exists() else []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    wait_for_end(workers_of_it)

    listener = Notes()
    stamps = {path: path.stat().st_mtime_ns for path in made}
    finished = len([path for path in out.glob(".parts/*.json") if path.name != "build.json"])
    assert 0 < finished < 8
    with pytest.raises(KeyboardInterrupt):  # once more, by Ctrl-C this time, to look at the parts in between
        corpus.build(
            [tmp_path / "in"],
            out,
            tokenizer=tokenizer_folder,
            holdout=50,
            listener=Interrupt(after=finished + 1),
            workers=1,
        )
    assert {path: path.stat().st_mtime_ns for path in made} == stamps, "a finished part was made again"
    corpus.build([tmp_path / "in"], out, tokenizer=tokenizer_folder, holdout=50, listener=listener, workers=1)
    assert any(note.startswith(f"resuming: {finished + 1} of 8") for note in listener.notes)
    assert digests(out) == digests(tmp_path / "straight")


@pytest.mark.parametrize("damaged", ["{", "[" * 9999])
def test_records_of_an_unfinished_build_that_are_damaged_are_made_again(damaged, tmp_path, tokenizer_folder):
    for at in range(2):
        write(tmp_path / "in" / f"{at}.jsonl", json_lines(abstracts(20, 20 * at)))
    corpus.build([tmp_path / "in"], tmp_path / "straight", tokenizer=tokenizer_folder, workers=1)
    with pytest.raises(KeyboardInterrupt):
        corpus.build(
            [tmp_path / "in"], tmp_path / "out", tokenizer=tokenizer_folder, listener=Interrupt(after=1), workers=1
        )
    records = list((tmp_path / "out" / ".parts").glob("*.json"))
    assert len(records) == 2
    for record in records:
        record.write_text(damaged)
    corpus.build([tmp_path / "in"], tmp_path / "out", tokenizer=tokenizer_folder, workers=1)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


@pytest.mark.parametrize("damage", [lambda table: table.write_bytes(table.read_bytes()[:100]), Path.unlink])
def test_rows_of_an_unfinished_build_that_are_damaged_are_made_again(damage, tmp_path, tokenizer_folder):
    for at in range(2):
        write(tmp_path / "in" / f"{at}.jsonl", json_lines(abstracts(20, 20 * at)))
    given = {"tokenizer": tokenizer_folder, "workers": 1}
    corpus.build([tmp_path / "in"], tmp_path / "straight", **given)
    with pytest.raises(KeyboardInterrupt):
        corpus.build([tmp_path / "in"], tmp_path / "out", listener=Interrupt(after=1), **given)
    (table,) = (tmp_path / "out" / ".parts").glob("*.arrow")
    damage(table)
    corpus.build([tmp_path / "in"], tmp_path / "out", **given)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_the_size_of_a_vocabulary_is_that_of_its_highest_id(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "a", "b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    record = building._tokenizer_record(load_tokenizer(tmp_path), "", "made")
    assert record["vocab_size"] == 8
