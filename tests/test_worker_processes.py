"""Worker processes end with the work that they are for, however it ends."""

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest

import compactbio
from compactbio.errors import UserError
from compactbio.processes import ordered_results, results_in_turn

# A worker that takes a request to stop as a training does: it would save first. Each line is one write, as lines of two
# processes must stay whole: where PYTHONUNBUFFERED is set, print() writes the line break by itself.
SCRIPT = r"""
import os
import signal
import time

from compactbio.processes import ordered_results

def prepare(number):
    signal.signal(signal.SIGTERM, lambda *_: None)

    def work(task):
        os.write(1, b"begun\n")
        until = time.monotonic() + 300
        while time.monotonic() < until:
            time.sleep(0.1)

    return work

if __name__ == "__main__":
    try:
        list(ordered_results(prepare, (), [1, 2], 2))
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def test_a_second_ctrl_c_ends_workers_that_are_still_saving(tmp_path):
    (tmp_path / "work.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "work.py"],
        stdout=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # until it waits for them
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    # Its output ends only when the workers, which share it, have ended too.
    assert (process.returncode, said) == (0, "stopped\n")


SAVING = r"""
def prepare(number):
    def work(task):
        signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"saved\n"), sys.exit(1)))
        os.write(1, b"begun\n")
        time.sleep(300)

    return work
"""


def test_sigterm_lets_workers_save_as_ctrl_c_does(tmp_path):
    start, end = SCRIPT.index("def prepare"), SCRIPT.index("if __name__")
    (tmp_path / "work.py").write_text("import sys\n" + SCRIPT[:start] + SAVING + SCRIPT[end:])
    process = subprocess.Popen([sys.executable, tmp_path / "work.py"], stdout=subprocess.PIPE, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "saved\nsaved\nstopped\n")


THREADS = """
import os
import sys

from compactbio.processes import unordered_results

NAMES = ["TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"]

if __name__ == "__main__":
    for tasks, workers in ((1, 1), (1, 3), (2, 5), (2, 2)):
        found = unordered_results(os.getenv, NAMES[:tasks], workers, lambda: None)
        print(tasks, workers, *sorted(map(str, found)))
    print(*(name in os.environ for name in NAMES))
"""


def test_workers_that_are_left_over_split_texts_and_leave_no_trace_in_the_environment(tmp_path, monkeypatch):
    for name in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "threads.py").write_text(THREADS)
    done = subprocess.run([sys.executable, tmp_path / "threads.py"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 1 false", "1 3 true", "2 5 2 true", "2 2 None false", "False False"]


WITHOUT_GUARD = """
from compactbio.processes import end_as_import, ordered_results

end_as_import()
list(ordered_results(print, (), [1, 2], 2))
"""


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    (tmp_path / "script.py").write_text(WITHOUT_GUARD)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("Traceback") == 2  # the cause and the sentence, of one process
    assert 'under `if __name__ == "__main__":`, or take one worker.' in done.stderr
    assert "lack of memory" not in done.stderr


@pytest.mark.parametrize("call", [
    lambda: compactbio.annotate_files("in.txt", "out.jsonl", models="model"),
    lambda: compactbio.build_corpus("in.jsonl", "out", tokenizer="model"),
    lambda: compactbio.compare("suite.yaml", "out"),
    lambda: compactbio.finetune("data", "model", "out"),
])  # fmt: skip
def test_a_worker_that_imports_the_script_ends_at_the_first_call(call, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit):
        call()


def _refused(number):
    raise UserError("the folder of the model cannot be read")


def test_what_a_worker_is_refused_as_it_starts_reaches_the_user(capfd):
    with pytest.raises(UserError, match=r"^the folder of the model cannot be read$"):
        list(ordered_results(_refused, (), [1, 2, 3], 2))
    assert capfd.readouterr().err == ""


def _prepare(number, folder):
    def work(task):
        name, waits_for, looks_for = task
        until = time.monotonic() + 60
        while waits_for and not (folder / waits_for).exists() and time.monotonic() < until:
            time.sleep(0.01)
        seen = [(folder / other).exists() for other in (waits_for, looks_for) if other]
        (folder / name).touch()
        return seen

    return work


def test_a_task_begins_when_those_it_needs_are_done_and_others_do_not_wait_for_it(tmp_path):
    # The first ends only when the last has: a worker that kept to the order would wait for ever.
    tasks = [("first", "last", ""), ("second", "", "first"), ("last", "", "second")]
    begun: list[int] = []
    found = dict(results_in_turn(_prepare, (tmp_path,), tasks, [(), (0,), ()], 2, begun.append))
    assert found == {0: [True], 1: [True], 2: [False]}
    assert begun == [0, 2, 1]
