"""Small real models and tokenizers, built here; nothing is downloaded."""

import gc
import hashlib
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # models this small are slower on two
if hasattr(os, "sched_setaffinity") and (_worker := os.environ.get("PYTEST_XDIST_WORKER")):
    # Each of the processes that share the tests has a core of its own: threads that wait for each other on busy cores
    # make small models many times slower.
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, settings
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
    PreTrainedModel,
)

import forked
from compactbio import corpus, processes
from compactbio.cards import plots
from compactbio.cli import main
from compactbio.deploy import profile
from compactbio.tasks import calibration_file

transformers.logging.disable_progress_bar()
# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
SHARED = Path(__file__).parents[2] / "shared" / "data"

WORDS = [
    "the",
    "of",
    "and",
    "in",
    "with",
    "was",
    "were",
    "a",
    "to",
    "for",
    "patients",
    "treatment",
    "study",
    "cells",
    "expression",
    "gene",
    "protein",
    "disease",
    "cancer",
    "tumor",
    "drug",
    "dose",
    "mg",
    "daily",
    "group",
    "control",
    "risk",
    "results",
    "showed",
    "significant",
    "increase",
    "decrease",
    "associated",
    "after",
    "before",
    "between",
    "during",
    "aspirin",
    "metformin",
    "insulin",
    "diabetes",
    "breast",
    "lung",
    "liver",
    "kidney",
    "mouse",
    "rats",
    "human",
    "blood",
    "level",
    "levels",
    "clinical",
    "trial",
    "randomized",
    "placebo",
    "effect",
    "effects",
    "##s",
    "##ed",
    "##ing",
    "##tion",
    "##al",
    "##ic",
    "##in",
    "##ol",
    ",",
    ".",
    "(",
    ")",
    "-",
    "%",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
]
SMALL = {"layers": 2, "batch_size": 6, "max_length": 32, "learning_rate": 1e-3, "warmup_steps": 2}
TINY = {"hidden_size": 12, "intermediate_size": 20, "heads": 4}
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
VOCABULARY = list(dict.fromkeys(VOCABULARY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that of the processes that share the files none is left with a long one."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector, which accelerate runs after each training, need not visit it."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(f"{len(skipped)} skipped")
    for reason, count in Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped).most_common():
        terminalreporter.line(f"{count:5,}  {reason}")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small uncased WordPiece tokenizer as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(vocab), do_lower_case=True).save_pretrained(folder)
    return folder


def randomize(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Draw every parameter anew, wide enough that no term is close to nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            wide = any(part in name for part in ("query", "key", "q_lin", "k_lin"))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.6 if wide else 0.15))
    model.tie_weights()
    return model.eval()


def bert(layers: int = 4, hidden: int = 24, heads: int = 4, vocab: int = len(VOCABULARY), seed: int = 0, **more):
    """A random BERT for masked LM."""
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, intermediate_size=2 * hidden,
        vocab_size=vocab, max_position_embeddings=64, **more,
    )  # fmt: skip
    return randomize(BertForMaskedLM(config), seed)


def distilbert(layers: int = 2, vocab: int = len(VOCABULARY), seed: int = 0):
    """A random DistilBERT for masked LM."""
    config = DistilBertConfig(
        n_layers=layers, dim=24, n_heads=4, hidden_dim=48, vocab_size=vocab, max_position_embeddings=64
    )
    return randomize(DistilBertForMaskedLM(config), seed)


def mobilebert(layers: int = 2, vocab: int = len(VOCABULARY), seed: int = 0):
    """A small random MobileBERT for masked LM, with its bottleneck."""
    config = MobileBertConfig(
        num_hidden_layers=layers, hidden_size=32, num_attention_heads=4, intermediate_size=32, embedding_size=16,
        intra_bottleneck_size=16, true_hidden_size=16, vocab_size=vocab, max_position_embeddings=64,
        num_feedforward_networks=2,
    )  # fmt: skip
    return randomize(MobileBertForMaskedLM(config), seed)


def batch(lengths: list[int], vocab: int = len(VOCABULARY), seed: int = 0, masked: float = 0.3):
    """A padded batch: input_ids, attention_mask, labels, each (len(lengths), longest)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    ids = torch.randint(5, vocab, shape, generator=generator)
    mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).long()
    labels = torch.where(torch.rand(shape, generator=generator) < masked, ids, -100)
    labels[:, 1] = ids[:, 1]
    return torch.where(mask == 1, ids, 0), mask, torch.where(mask == 1, labels, -100)


@pytest.fixture(scope="session")
def token_corpus(tokenizer_folder, tmp_path_factory) -> Path:
    """A corpus of 60 short made-up documents, ten of them held out."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    words = [piece for piece in VOCABULARY[5:] if piece.isalpha()]
    source = folder / "made.jsonl"
    with source.open("w") as file:
        for i in range(60):
            text = " ".join(rng.choice(words, rng.integers(4, 40)))
            file.write(json.dumps({"pmid": str(i + 1), "title": "", "abstract": text}) + "\n")
    corpus.build(
        [str(source)], folder / "corpus", tokenizer=str(tokenizer_folder), max_length=32, holdout=10, workers=1
    )
    return folder / "corpus"


@pytest.fixture(scope="session")
def teacher_folder(tokenizer_folder, tmp_path_factory) -> Path:
    """A random BERT of four layers with its tokenizer."""
    folder = tmp_path_factory.mktemp("teacher")
    bert(layers=4).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


def command(out: Path, corpus_folder: Path, teacher: Path, *more: str, name: str = "distil-biobert") -> list[str]:
    """The command line of a small run."""
    settings = {**SMALL, "eval_every": 4, "save_every": 3}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    places = ["--corpus", str(corpus_folder), "--out", str(out), "--teacher", str(teacher)]
    return [sys.executable, "-m", "compactbio", "train", name, *places, *sets, *more]


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process: arguments in, (status, stdout, stderr) out."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compactbio", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        captured = capsys.readouterr()
        return int(leaving.value.code or 0), captured.out, captured.err

    return run


def one_sentence(outcome: tuple[int, str, str], *words: str) -> None:
    """Assert that a command failed as the user's mistake, in one line that holds all `words`."""
    status, stdout, stderr = outcome
    assert (status, stdout) == (2, "")
    assert len(stderr.strip().splitlines()) == 1, stderr
    for word in words:
        assert word in stderr


@pytest.fixture(scope="module")
def start(tokenizer_folder, tmp_path_factory) -> Path:
    """A small BERT to fine-tune, with its tokenizer."""
    from task_data import start_folder

    return start_folder(tmp_path_factory.mktemp("start") / "start", tokenizer_folder)


@pytest.fixture(scope="session")
def tagger(tokenizer_folder, tmp_path_factory) -> Path:
    """A model fine-tuned on made-up sentences to find drugs and cancers, all of type Drug; rows of 32 tokens."""
    from compactbio.training.finetuning import finetune
    from task_data import ner_folder, start_folder

    place = tmp_path_factory.mktemp("tagger")
    data = ner_folder(place / "made", {"train": 120, "devel": 30, "test": 40}, kind="Drug")
    start = start_folder(place / "start", tokenizer_folder)
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
    finetune(data, str(start), place / "tagger", overrides=settings)
    return place / "tagger"


@pytest.fixture(scope="session")
def kept_programs():
    """`export` makes the ONNX program of the same model, weights and task once, which costs seconds each time."""
    from compactbio.deploy import export, onnx_programs

    made: dict[str, object] = {}

    def program_of(model: PreTrainedModel, task: str) -> object:
        # All that a program depends on.
        config = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
        known = hashlib.sha256(json.dumps([type(model).__name__, config, task], default=str).encode())
        for name, value in model.state_dict().items():
            known.update(name.encode() + value.numpy().tobytes())
        if known.hexdigest() not in made:
            made[known.hexdigest()] = onnx_programs.program_of(model, task)
        return made[known.hexdigest()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "program_of", program_of)
        yield program_of


@pytest.fixture(scope="session", autouse=True)
def quick_processes():
    """Processes for a pool, or to measure memory, are forked from one that has imported the libraries.

    They are as new as spawned ones, and all is pickled to them; a command that a test starts spawns its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(forked.IMPORTED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_CONTEXT", context)
        patch.setattr(profile, "subprocess", forked)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_pictures():
    """The picture of a calibration is an empty file: to draw one takes a tenth of a second and more, hundreds of times.

    Only the models' own: replaced in its module, the function would be lost to what is imported later, too.
    """
    undrawn = SimpleNamespace(available=plots.available, calibration_figure=lambda _: None, png=lambda _: b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_file, "plots", undrawn)
        yield


@pytest.fixture(scope="module")
def pictures(no_pictures):
    """In modules that use it pictures are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_file, "plots", plots)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as the processes that a test starts do, whatever an earlier test set: other sums differ in their bits."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)  # fixtures of a session or module are made before the next test's own


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """Keep what is measured and cached out of the user's own cache."""
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
