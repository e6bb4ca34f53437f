"""Annotation speed: `python -m benchmarks.inference` times the annotator beside `transformers.pipeline("ner")`.

A six-layer NER model of width 768 with random weights, sentences with the lengths of PubMed's; all in one process, in
turns. The pipeline runs as its documentation shows it (a list of texts), and with the best of several batch sizes. Int8
is by channel, and not scored: the weights mean nothing.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from transformers import AutoModelForTokenClassification, pipeline

from benchmarks import tagger
from compactbio import Annotator
from compactbio.deploy.onnx_programs import Quantiser, program_of, save_program
from compactbio.modeling import runtimes
from compactbio.modeling.hardware import time_in_turns
from compactbio.processes import processor

BATCHES = (8, 32, 128)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print it."""
    options = _options(arguments)
    transformers.logging.set_verbosity_error()
    with TemporaryDirectory() as folder:
        result = measure(Path(folder), options.sentences, options.rounds, small=options.small)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else _text(result))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference",
        description=__doc__,
        epilog="Example: python -m benchmarks.inference --json",
    )
    parser.add_argument("--sentences", type=int, default=256, help="sentences a round (256)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed; the median counts (3)")
    parser.add_argument("--small", action="store_true", help="a tiny model: whether it runs, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def measure(folder: Path, count: int, rounds: int, *, small: bool) -> dict[str, Any]:
    """Tokens a second of every way, and ratios of the fastest runtime to the pipeline's two."""
    shape = {"layers": 1, "width": 48, "inner": 96, "vocabulary": 1200} if small else {}
    tagger.write(folder, **shape)
    _export(folder)
    texts = tagger.sentences(count, shape.get("vocabulary", tagger.VOCABULARY))
    names = [*runtimes.available(runtimes.find(str(folder))), *runtimes.ONNX_FILES]
    ways: dict[str, Callable[[], object]] = {
        name: _ours(Annotator.from_pretrained(folder, runtime=name), texts) for name in names
    }
    ner = pipeline("ner", model=str(folder))
    for size in (1, *BATCHES):
        ways[f"pipeline, batch {size}"] = _pipeline(ner, texts, size)
    seconds = time_in_turns(ways, rounds, lambda done: sys.stderr.write(f"round {done} of {rounds}\n"))
    tokens = sum(len(ids) for ids in ner.tokenizer(texts)["input_ids"])
    speeds = {name: tokens / statistics.median(taken) for name, taken in seconds.items()}
    ours = max((name for name in speeds if name in runtimes.NAMES), key=lambda name: speeds[name])
    batched = max((f"pipeline, batch {size}" for size in BATCHES), key=lambda name: speeds[name])
    return {
        "machine": {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "sentences": count,
        "tokens": tokens,
        "tokens_per_second": speeds,
        "fastest_runtime": ours,
        "best_pipeline_batch": batched,
        "ratio_to_pipeline": speeds[ours] / speeds["pipeline, batch 1"],
        "ratio_to_batched_pipeline": speeds[ours] / speeds[batched],
    }


def _export(folder: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    program = program_of(model, "ner")
    save_program(program, folder / runtimes.ONNX_FILES["onnx-fp32"])
    Quantiser(program, model, "ner", folder).make(per_channel=True)


def _ours(annotator: Annotator, texts: Sequence[str]) -> Callable[[], object]:
    return lambda: annotator(texts)


def _pipeline(ner: Any, texts: Sequence[str], size: int) -> Callable[[], object]:
    return lambda: ner(list(texts), batch_size=size)


def _text(result: dict[str, Any]) -> str:
    machine = result["machine"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"{result['sentences']} sentences, {result['tokens']:,} tokens"
    ]
    lines += [f"{name:20}{speed:10,.0f} tokens/s" for name, speed in result["tokens_per_second"].items()]
    lines.append(
        f"{result['fastest_runtime']}: {result['ratio_to_pipeline']:.2f} times the pipeline, "
        f"{result['ratio_to_batched_pipeline']:.2f} times the {result['best_pipeline_batch']}"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
