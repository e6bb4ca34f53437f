"""Training speed: `python -m benchmarks.training` times each recipe's steps against the plain way of computing them.

BioBERT's sizes with random weights, rows of random tokens with the lengths of PubMed citations. Every variant runs in a
process of its own, in turns, so that what else the machine does hits all alike; its peak memory is that process's.
bf16 is not run where the device lacks it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from benchmarks import lengths
from benchmarks.baseline import Baseline
from compactbio import recipes
from compactbio.modeling import build_student
from compactbio.modeling.hardware import device, has_bf16, peak
from compactbio.modeling.hardware import tokens as default_tokens
from compactbio.modeling.packing import Row
from compactbio.objectives import Distiller
from compactbio.processes import processor
from compactbio.recipes import Recipe
from compactbio.training.batches import Labelled, Masking
from compactbio.training.plan import time_steps, training_flops_per_token

RECIPES = ("distil-biobert", "compact-biobert", "tiny-biobert", "bio-distilbert-cased")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NOT_RUN = "not run: this processor has no bf16"
_COMPILED = "bf16, layers by torch.compile"
# One means of the engine left out, in bf16: what is put in its place, and where.
ABLATIONS: dict[str, tuple[str, Any]] = {
    "bf16, PyTorch's own dropout": ("compactbio.training.engine.quick_dropout", lambda model: nullcontext()),
    "bf16, a fresh gradient of the embeddings": (
        "compactbio.training.engine.embedding_gradient_in_place",
        lambda model: nullcontext(),
    ),
    "bf16, freed buffers given back": ("compactbio.training.engine.reusing_memory", nullcontext),
    "bf16, attention in bf16 too": ("compactbio.modeling.attention._HALF", ()),
    "bf16, one citation a micro-batch": (f"{__name__}.default_tokens", lambda: 1),
}
_SPECIAL = 104  # the pieces below are special or unused in BERT's cased vocabulary
_SMALL = {"vocab_size": 999, "hidden_size": 48, "num_hidden_layers": 12, "num_attention_heads": 12}


@dataclass(frozen=True)
class Job:
    """What one process measures. `small` takes tiny models and rows, to see that it runs."""

    recipe: str
    variant: str
    citations: int
    steps: int
    small: bool


@dataclass(frozen=True)
class Figures:
    """What it measured: seconds and tokens a step, bytes that loading and training took at their peak."""

    seconds: list[float]
    tokens: list[int]
    memory: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and print it."""
    options = _options(arguments)
    if options.job:
        sys.stdout.write(json.dumps(asdict(measure(Job(**json.loads(options.job))))))
        return
    # Emulated, a round would take hours and say nothing of bf16.
    precisions = {name: dtype for name, dtype in PRECISIONS.items() if name != "bf16" or has_bf16()}
    rates = {name: matrix_rate(dtype, small=options.small) for name, dtype in precisions.items()}
    rows = []
    for recipe in options.recipe or RECIPES:
        variants = ("baseline", *precisions)
        jobs = [Job(recipe, variant, options.citations, options.steps, options.small) for variant in variants]
        found: dict[str, list[Figures]] = {variant: [] for variant in variants}
        for turn in range(options.rounds):
            for job in jobs:
                sys.stderr.write(f"{recipe}, {job.variant}, round {turn + 1} of {options.rounds}\n")
                found[job.variant].append(_in_a_process(job))
        rows += _rows(jobs[0], found, rates)
    if options.ablate and "bf16" in precisions:
        rows += _ablation(options)
    elif options.ablate:
        sys.stderr.write(f"--ablate, {NOT_RUN}\n")
    result = {
        "machine": {
            "processor": processor(),
            "device": device(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "matrix_gflops": {precision: rate / 1e9 for precision, rate in rates.items()},
        },
        "citations_a_step": options.citations,
        "rows": rows,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else _text(result))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        epilog="Example: python -m benchmarks.training --recipe distil-biobert --json",
    )
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="only this one; may be given again")
    parser.add_argument("--citations", type=int, default=8, help="citations a step (8)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps a round, after one that warms up (3)")
    parser.add_argument("--rounds", type=int, default=2, help="how often every variant is run (2)")
    parser.add_argument("--ablate", action="store_true", help="also distil-biobert in bf16 with one means left out")
    parser.add_argument("--small", action="store_true", help="tiny models: whether it runs, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _ablation(options: argparse.Namespace) -> list[dict[str, Any]]:
    """distil-biobert in bf16 as it is, and with each means of ABLATIONS left out or its layers compiled, in turns."""
    names = ("bf16", *ABLATIONS, _COMPILED)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names:
            sys.stderr.write(f"{name}, round {turn + 1} of {options.rounds}\n")
            job = Job("distil-biobert", name, options.citations, options.steps, options.small)
            found[name].append(_in_a_process(job))
    speeds = {name: _speed(parts) for name, parts in found.items()}
    return [
        {
            "recipe": "distil-biobert",
            "precision": name,
            "tokens_per_second": speed,
            "ratio_to_all": speed / speeds["bf16"],
        }
        for name, speed in speeds.items()
    ]


def _speed(parts: Sequence[Figures]) -> float:
    """The median over steps of tokens a second."""
    steps = [(s, t) for one in parts for s, t in zip(one.seconds, one.tokens, strict=True)]
    return statistics.median(tokens / seconds for seconds, tokens in steps)


def _in_a_process(job: Job) -> Figures:
    command = [sys.executable, "-m", "benchmarks.training", "--job", json.dumps(asdict(job))]
    return Figures(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def measure(job: Job) -> Figures:
    """Run one job in this process."""
    before = peak()
    recipe, teacher, student = models(job)
    source = Labelled(rows(job, teacher.config.vocab_size), seed=0)
    reads = teacher if recipe.kind == "distil" else None
    if job.variant == "baseline":
        seconds, tokens = _time_baseline(recipe, reads, student, source, job)
    else:
        if job.variant == _COMPILED:
            _compile(student)
        place, instead = ABLATIONS.get(job.variant, ("", None))
        with patch(place, instead) if place else nullcontext():
            timed = time_steps(
                student,
                reads,
                source,
                recipe,
                precision=job.variant.partition(",")[0],
                tokens_per_batch=default_tokens(),
                count=job.steps,
            )
        seconds, tokens = list(timed.seconds), list(timed.tokens)
    return Figures(seconds, tokens, peak() - before)


def _compile(student: PreTrainedModel) -> None:
    """Compile what a layer does beside attention; rows differ in length, so for any number of tokens."""
    for layer in student.bert.encoder.layer:
        for part in (layer.intermediate, layer.output, layer.attention.output):
            part.compile(dynamic=True)


def models(job: Job) -> tuple[Recipe, PreTrainedModel, PreTrainedModel]:
    """The recipe, a random teacher of BioBERT's size (or start of a continued run), and the student."""
    shape: dict[str, Any] = {**_SMALL, "intermediate_size": 96} if job.small else {"vocab_size": 28_996}
    continued = job.recipe == "bio-distilbert-cased"
    torch.manual_seed(0)
    # DistilBERT's six layers; as a BERT, which differs from it by the token types alone.
    teacher = BertForMaskedLM(BertConfig(**{**shape, **({"num_hidden_layers": 6} if continued else {})})).eval()
    narrow = {"hidden_size": 24, "intermediate_size": 48} if job.small and job.recipe == "tiny-biobert" else {}
    recipe = recipes.load(job.recipe, batch_size=job.citations, **narrow)
    return recipe, teacher, build_student(recipe, teacher)


def rows(job: Job, vocabulary: int) -> list[Row]:
    """Masked rows of random pieces for all steps of a job, with the lengths of citations."""
    generator = np.random.default_rng(0)
    special = np.arange(vocabulary) < _SPECIAL
    masking = Masking(0.15, 103, special, seed=0)
    sizes = lengths.draw(job.citations * (job.steps + 1), longest=32 if job.small else 256)
    ids = (generator.integers(_SPECIAL, vocabulary, size=size) for size in sizes)
    return [Row(*masking.apply(one, 0, place)) for place, one in enumerate(ids)]


def _time_baseline(
    recipe: Recipe, teacher: PreTrainedModel | None, student: PreTrainedModel, source: Labelled, job: Job
) -> tuple[list[float], list[int]]:
    projection = Distiller(student, teacher, recipe).projection
    device_ = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if teacher is not None:
        teacher.to(device_)
    module = Baseline(student, teacher, recipe, projection).to(device_).train()
    optimiser = torch.optim.AdamW(module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    seconds, tokens = [], []
    for step in range(job.steps + 1):
        chosen = source.take([(0, step * job.citations + i) for i in range(job.citations)])
        batch = [part.to(device_) for part in padded(chosen)]
        _wait()
        began = time.perf_counter()
        module(*batch).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad()
        _wait()
        seconds.append(time.perf_counter() - began)
        tokens.append(sum(map(len, chosen)))
    return seconds[1:], tokens[1:]


def padded(chosen: Iterable[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows as a padded batch: input_ids, attention_mask, labels, each (rows, longest)."""
    ids = [torch.from_numpy(row.input_ids) for row in chosen]
    labels = [torch.from_numpy(row.labels) for row in chosen]
    mask = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    return pad_sequence(ids, batch_first=True), mask, pad_sequence(labels, batch_first=True, padding_value=-100)


def matrix_rate(dtype: torch.dtype, *, small: bool) -> float:
    """Floating-point operations a second of `torch.mm` on the student's own shapes, the median of several calls."""
    width, inner, n = (48, 96, 64) if small else (768, 3072, default_tokens())
    place = "cuda" if torch.cuda.is_available() else "cpu"
    rates = []
    for k, out in ((width, width), (width, inner), (inner, width)):
        a = torch.randn(n, k, device=place).to(dtype)
        b = torch.randn(k, out, device=place).to(dtype)
        taken = []
        for _ in range(7):
            _wait()
            began = time.perf_counter()
            torch.mm(a, b)
            _wait()
            taken.append(time.perf_counter() - began)
        # Four of twelve width x width, and both of the feed-forward layer, by their share of a layer's arithmetic.
        rates.append((statistics.median(taken) / (2 * n * k * out), k * out * (4 if k == out else 1)))
    return sum(share for _, share in rates) / sum(cost * share for cost, share in rates)


def flops(job: Job) -> float:
    """Floating-point operations that a token of a job needs: student three times forward, teacher once."""
    recipe, teacher, student = models(job)
    return training_flops_per_token(
        recipe, student, teacher, [len(row) for row in rows(job, teacher.config.vocab_size)]
    )


def _rows(job: Job, found: dict[str, list[Figures]], rates: dict[str, float]) -> list[dict[str, Any]]:
    needed = flops(job)
    speeds = {variant: _speed(parts) for variant, parts in found.items()}
    memory = {variant: max(one.memory for one in parts) for variant, parts in found.items()}
    return [
        {
            "recipe": job.recipe,
            "precision": variant,
            "ratio": speeds[variant] / speeds["baseline"],
            "tokens_per_second": speeds[variant],
            "baseline_tokens_per_second": speeds["baseline"],
            "memory_bytes": memory[variant],
            "baseline_memory_bytes": memory["baseline"],
            "flops_per_token": needed,
            "share_of_matrix_rate": speeds[variant] * needed / rates[variant],
        }
        for variant in rates
    ] + [
        {"recipe": job.recipe, "precision": one, "ratio": None, "not_run": NOT_RUN}
        for one in PRECISIONS
        if one not in rates
    ]


def _text(result: dict[str, Any]) -> str:
    machine = result["machine"]
    lines = [
        f"{machine['processor']}, {machine['device']}, {machine['threads']} threads, torch {machine['torch']}; "
        "matrix products on the models' shapes, GFLOP/s: "
        + ", ".join(f"{precision} {rate:,.0f}" for precision, rate in machine["matrix_gflops"].items()),
        f"{'recipe':22}{'':6}{'tokens/s':>10}{'baseline':>10}{'ratio':>8}{'of rate':>9}{'memory':>10}{'baseline':>10}",
    ]
    for row in result["rows"]:
        if "not_run" in row:
            lines.append(f"{row['recipe']:22}{row['precision']:6}{row['not_run']}")
            continue
        if "ratio" not in row:
            told = f"{row['tokens_per_second']:,.0f} tokens/s, {row['ratio_to_all']:.2f} of all means"
            lines.append(f"{row['recipe']}, {row['precision']}: {told}")
            continue
        lines.append(
            f"{row['recipe']:22}{row['precision']:6}{row['tokens_per_second']:10,.0f}"
            f"{row['baseline_tokens_per_second']:10,.0f}{row['ratio']:8.2f}{row['share_of_matrix_rate']:9.0%}"
            f"{row['memory_bytes'] / 1e6:7,.0f} MB{row['baseline_memory_bytes'] / 1e6:7,.0f} MB"
        )
    return "\n".join(lines) + "\n"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
