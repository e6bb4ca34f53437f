"""Two processes, started by torchrun and by accelerate for all tests, train the same models as one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import forked
import small_models
from compactbio import corpus
from compactbio.errors import UserError
from compactbio.files import locked
from compactbio.training import run_folder
from conftest import TINY, bert, command
from small_tokenizers import SENTENCES
from task_data import ner_folder

# The one file that starts several training processes: as one process runs a file, no two of them run at once.
pytestmark = pytest.mark.slow
# Each rank runs several commands one after the other, which saves loading the libraries for each.
SCRIPT = """
import json, os, sys
from compactbio.cli import main
from compactbio.training import run_folder

run_folder._SHARED_SECONDS = 0.5
for line in json.loads(sys.argv[1]):
    sys.argv = ["compactbio", *(word.replace("{rank}", os.environ["RANK"]) for word in line)]
    try:
        main()
    except SystemExit as leaving:
        # One write, so that the lines of two processes do not mix.
        os.write(2, (json.dumps([os.environ["RANK"], leaving.code or 0]) + "\\n").encode())
"""


LAUNCHERS = {
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    # Its launcher of several processes, which needs no GPU; the precision is that of the command, not of the launcher.
    "accelerate": [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines",
        "1", "--mixed_precision", "bf16", "--dynamo_backend", "no",
    ],
}  # fmt: skip
FAMILIES = {"modernbert": "torchrun", "roberta": "accelerate", "deberta-v2": "accelerate"}


def _family_line(family: str, place: Path) -> list[str]:
    """The command that distils a small random teacher of a family."""
    teacher = small_models.save(family, "mlm", place / f"{family}-teacher")
    texts = [f"{first} {second}" for first in SENTENCES for second in SENTENCES[:3]]
    made = place / "made.jsonl"
    made.write_text("\n".join(json.dumps({"pmid": str(i), "abstract": text}) for i, text in enumerate(texts, 1)))
    rows = place / f"{family}-corpus"
    corpus.build([made], rows, tokenizer=teacher, max_length=32, holdout=4, workers=1)
    more = ["--steps", "5", "--precision", "fp32", "--set", "hidden_dropout=0", "--tokens-per-batch", "64"]
    return command(place / family, rows, teacher, *more)[3:]


def _taught_line(tokenizer_folder: Path, place: Path) -> list[str]:
    """The command that trains a tagger with a teacher, and unlabelled texts of which each process computes some."""
    data = ner_folder(place / "data", {"train": 12, "test": 4})
    start = bert(layers=2, hidden_dropout_prob=0.0)
    start.save_pretrained(place / "start")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(place / "start")
    teacher = small_models.save("roberta", "ner", place / "teacher", ["B", "I", "O"])
    texts = place / "texts.txt"
    texts.write_text("".join(f"patients of group {number}\n" for number in range(300)))
    sets = [f"--set={key}={value}" for key, value in {"epochs": 1, "batch_size": 52, "learning_rate": 1e-3}.items()]
    named = ["--model", place / "start", "--teacher", teacher, "--unlabelled", texts, "--out", place / "taught"]
    return ["finetune", *map(str, [data, *named]), *sets, "--precision", "fp32", "--tokens-per-batch", "64"]


@pytest.fixture(scope="module")
def runs(token_corpus, teacher_folder, tokenizer_folder, tmp_path_factory):
    """The commands of all runs, what they said on two processes, and the folder that holds them."""
    place = tmp_path_factory.mktemp("processes")
    more = ["--steps", "5", "--precision", "fp32", "--set", "hidden_dropout=0", "--tokens-per-batch", "64"]
    tiny = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]

    def line(out: str, *further: str, name: str = "distil-biobert") -> list[str]:
        return command(place / out, token_corpus, teacher_folder, *more, *further, name=name)[3:]

    taught = _taught_line(tokenizer_folder, place)
    lines = {
        "distil-biobert": line("distil-biobert"),
        "tiny-biobert": line("tiny-biobert", *tiny, name="tiny-biobert"),
        "relation-biobert": line("relation-biobert", *tiny, name="relation-biobert"),
        "crowded": line("crowded", "--set", "batch_size=1"),
        "held": line("held"),
        "seeds": line("seeds", "--set", "seed={rank}"),
        "few rows": [word.replace("batch_size=52", "batch_size=1") for word in taught],
        "apart": line("apart-{rank}"),
        "plan": ["plan", "distil-biobert", "--corpus", str(token_corpus), "--teacher", str(teacher_folder)],
        "taught": taught,
        "search": [*[str(place / "search") if word == str(place / "taught") else word for word in taught], "--search"],
    } | {family: _family_line(family, place) for family in FAMILIES}
    # The last one, as it ends what the processes have in common.
    (place / "corpus-0").symlink_to(token_corpus)
    lines["lacking"] = [str(place / "corpus-{rank}") if w == str(token_corpus) else w for w in line("lacking")]
    environment = {**os.environ, "COMPACTBIO_CACHE": str(place / "cache")}
    (place / "run.py").write_text(SCRIPT)
    messages, started = "", []
    with locked(place / "held"):  # by this process, which is another one
        for launcher, words in LAUNCHERS.items():
            own = [line for name, line in lines.items() if FAMILIES.get(name, "torchrun") == launcher]
            todo = [*words, str(place / "run.py"), json.dumps(own)]
            piped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
            started.append(forked.Popen(todo, env=environment, **piped))
        for process in started:  # both at a time: the processes of one launcher wait for each other
            _, said = process.communicate()
            assert process.returncode == 0, said
            messages += said
    return lines, messages, place


def _lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["distil-biobert", "tiny-biobert", "relation-biobert", *FAMILIES])
def test_two_processes_train_the_same_model_as_one(name, runs, cli, tmp_path):
    lines, _, place = runs
    one, two = tmp_path / "one", place / name
    status, _, messages = cli(*[str(one) if word == str(two) else word for word in lines[name]])
    assert status == 0, messages
    ours, theirs = (load_file(out / "checkpoints" / "checkpoint-5" / "model.safetensors") for out in (one, two))
    for key, value in ours.items():
        # A thousandth of what five steps of Adam can move a weight.
        assert torch.allclose(value, theirs[key], atol=5e-6, rtol=0), key
    losses = [[line["loss"] for line in _lines(out) if "loss" in line] for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 5
    held = [[line["heldout_loss"] for line in _lines(out) if "heldout_loss" in line] for out in (one, two)]
    assert held[0] == pytest.approx(held[1], rel=1e-5) and len(held[0]) == 3


def test_two_processes_learn_from_a_teacher_as_one_does(runs, cli, tmp_path):
    lines, _, place = runs
    one, two = tmp_path / "one", place / "taught"
    status, _, messages = cli(*[str(one) if word == str(two) else word for word in lines["taught"]])
    assert status == 0, messages
    ours, theirs = (load_file(out / "model.safetensors") for out in (one, two))
    for key, value in ours.items():
        assert torch.allclose(value, theirs[key], atol=1e-5, rtol=0), key
    losses = [[line["teacher"] for line in _lines(out) if "teacher" in line] for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-8) and len(losses[0]) == 6
    # A file of labelled texts and two of unlabelled ones, whoever computed them.
    assert len(list((place / "cache" / "teachers").rglob("*.arrow"))) == 3


def test_a_checkpoint_of_two_processes_is_not_resumed_by_one(runs, tmp_path):
    out = shutil.copytree(runs[2] / "distil-biobert", tmp_path / "out")
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "result": None}))
    newest = out / "checkpoints" / "checkpoint-5"
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.iterdir()}
    with pytest.raises(UserError, match="checkpoint-5: it was saved by 2 processes, not 1"):
        run_folder.begin(out, record["identity"], resume=True)


def test_what_is_refused_is_one_sentence_of_all_processes(runs):
    """More processes than citations in a step, a folder that another run is writing, processes that were not given the
    same, a folder that they do not share, and what one process does."""
    _, messages, place = runs
    ends = [json.loads(line) for line in messages.splitlines() if line.startswith('["')]
    assert sorted(ends) == [*[["0", 0]] * 7, *[["0", 2]] * 8, *[["1", 0]] * 7, *[["1", 2]] * 8]
    assert "Traceback" not in messages and not (place / "held").exists()

    def of_first(sentence: str) -> list[bool]:
        """Of each line with the sentence whether it is that of the first process."""
        return sorted(not line.startswith("Process 1: ") for line in messages.splitlines() if sentence in line)

    for sentence in (
        "cannot share a step of 1 citations",
        "cannot share a step of 1 rows",
        "held: another run is writing it",
        "Process 1 of this run was given another recipe (seed 1, not 0) than process 0",
        " is another folder for process 1 than for process 0",
        "compactbio plan runs in one process: start it without torchrun",
        "A search runs in one process: start it without torchrun",
    ):
        assert of_first(sentence) == [False, True], sentence
    assert of_first("corpus-1") == [False]
    assert of_first("Another process of this run has ended") == [True]
    assert not {path.name for path in (place / "apart-0").iterdir()} - {"run.json"} and not (place / "seeds").exists()
