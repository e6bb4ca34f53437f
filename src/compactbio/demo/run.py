"""The whole way: corpus, teacher, students by distillation and by continued pre-training, one put to work, a table."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from compactbio import corpus as corpora
from compactbio import formats, recipes
from compactbio.annotate import Annotator, Entity
from compactbio.demo import data
from compactbio.documents.words import sentences
from compactbio.evaluation import scoring
from compactbio.files import read_json, write_json
from compactbio.modeling.loading import quiet
from compactbio.modeling.packing import Packed
from compactbio.recipes import Recipe
from compactbio.training import batches, masked_lm, reporting
from compactbio.training.finetuning import finetune
from compactbio.training.masked_lm import Masking
from compactbio.training.pretraining import train

_TEACHER = {
    "name": "demo-teacher",
    "summary": "A small BERT from random weights, the demo's teacher",
    "kind": "continue",
    "start": "random",
    "layers": 2,
    "hidden_size": 192,
    "intermediate_size": 768,
    "heads": 4,
    "loss": {"mlm": 1.0},
    "batch_size": 32,
    "steps": 600,
    "learning_rate": 2e-3,
    "warmup_steps": 40,
    "weight_decay": 0.01,
    "eval_every": 150,
}
_COMMON = {"max_length": data.MAX_LENGTH, "hidden_dropout": 0.0, "save_every": 1000}
_STUDENT = {"batch_size": 32, "steps": 90, "warmup_steps": 9, "learning_rate": 1e-3, "eval_every": 30}
_SHAPES: dict[str, dict[str, Any]] = {
    "distil-biobert": {"layers": 1},
    "compact-biobert": {"layers": 1},
    "tiny-biobert": {"layers": 1, "hidden_size": 96, "intermediate_size": 384, "heads": 4},
}
# Of the students the one that is fine-tuned, and how.
_TAGGED, _TAGGER = "distil-biobert", {"epochs": 3, "batch_size": 32, "max_length": 128, "learning_rate": 1e-3}
_MLM_ALONE = {term.value: 0.0 for term in recipes.LossTerm} | {"mlm": 1.0}
# What the demo asserts: with less than this between them the teacher has learned nothing worth teaching.
_NATS_BELOW_UNIGRAM = 1.0


@dataclass(frozen=True)
class Row:
    """A line of the table. `loss` in nats a masked token, `alone` that of the same student by MLM alone, or None."""

    model: str
    how: str
    parameters: int
    megabytes: float
    loss: float
    accuracy: float
    tokens_per_second: float
    alone: float | None = None


@dataclass(frozen=True)
class Tagged:
    """The student at work: `model` is the folder of the fine-tuned one, `f1` its score on the synthetic test documents,
    `entities` what it found in `text`."""

    model: str
    f1: float
    text: str
    entities: list[Entity]

    def shown(self) -> str:
        """The text with its entities in brackets."""
        parts, end = [], 0
        for entity in self.entities:
            parts += [self.text[end : entity.start], f"[{entity.text} {entity.type}]"]
            end = entity.end
        return "".join([*parts, self.text[end:]])


@dataclass(frozen=True)
class Table:
    """What the demo found, on `masked` held-out masked tokens of the synthetic corpus."""

    rows: list[Row]
    unigram: float
    masked: int
    curves: dict[str, list[tuple[int, float]]]
    tagged: Tagged

    def verdicts(self) -> list[str]:
        """For each distilled student, whether it ended below the same student trained by MLM alone."""
        sentences = []
        for row in self.rows:
            if row.alone is not None:
                word = "lower" if row.loss < row.alone else "NOT lower"
                sentences.append(
                    f"{row.model}: held-out loss {row.loss:.3f} distilled, {row.alone:.3f} by MLM alone from the same "
                    f"start for the same steps: {word}."
                )
        return sentences


def demo(out: str | Path, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> Table:  # noqa: T201
    """Run the demo into the folder `out`, or take up where an earlier one stopped.

    Raises UserError for a folder of something else, RuntimeError where the teacher ends less than one nat below a
    unigram model.
    """
    out = Path(out)
    data.open_folder(out)
    say(f"1/5 synthetic corpus: {data.TRAIN:,} abstracts made by a grammar, with gold annotations")
    data.write_documents(out)
    corpus = data.build_corpus(out)
    say("2/5 teacher: a small BERT from random weights")
    models = out / "models"
    teacher = _made(Recipe.model_validate({**_TEACHER, **_COMMON}), corpus, models / "teacher")
    say("3/5 students: three distillations, each beside the same student trained by MLM alone")
    for name, shape in _SHAPES.items():
        for kind, loss in (("", {}), ("-mlm-alone", {"loss": _MLM_ALONE})):
            recipe = recipes.load(name, **shape, **_STUDENT, **_COMMON, **loss)
            _made(recipe, corpus, models / f"{name}{kind}", teacher=str(teacher))
    recipe = recipes.load("bio-tinybert", **_STUDENT, **_COMMON)
    _made(recipe, corpus, models / "continued", init=str(models / "tiny-biobert"))
    say("4/5 a student fine-tuned to find entities, and put to work")
    tagged = _tagged(out)
    say("5/5 measuring")
    table = _table(corpus, models, tagged)
    write_json(out / "table.json", asdict(table))
    below = table.unigram - table.rows[0].loss
    if below < _NATS_BELOW_UNIGRAM:
        raise RuntimeError(f"the demo's teacher ended {below:.2f} nats below a unigram model, less than 1")
    return table


def _made(recipe: Recipe, corpus: Path, folder: Path, **more: str) -> Path:
    result = train(recipe, corpus, folder, resume=(folder / "run.json").exists(), **more)  # type: ignore[arg-type]
    if result.state == "stopped":
        raise KeyboardInterrupt
    return folder


def _tagged(out: Path) -> Tagged:
    """Fine-tune a student on the entities of some documents, score it, and annotate a title and a sentence with it."""
    data_set, folder = data.write_tagged(out), out / "models" / "tagger"
    result = finetune(
        data_set, str(out / "models" / _TAGGED), folder, overrides=_TAGGER, resume=(folder / "run.json").exists()
    )
    if result.state == "stopped":
        raise KeyboardInterrupt
    score = scoring.evaluate(str(folder), data_set)
    scoring.add_to_card(folder, score)
    text = next(iter(formats.read(data_set / "test.jsonl"))).text
    text = text[: sentences(text)[1][1]].strip()
    [entities] = Annotator.from_pretrained(folder, runtime="torch-fp32")([text])
    return Tagged(str(folder), score.outcome.main, text, entities)


def _table(corpus: Path, models: Path, tagged: Tagged) -> Table:
    splits = corpora.open(corpus)
    masking = Masking.of(corpora.tokenizer(corpus), 0.15, seed=0)
    held = batches.heldout_batches(splits["holdout"], masking, tokens=4096)
    rows = [_row("teacher", "MLM, from random", models, held)]
    for name in _SHAPES:
        alone = read_json(models / f"{name}-mlm-alone" / "run.json")["result"]["heldout_loss"]
        rows.append(_row(name, "distilled", models, held, alone))
    rows.append(_row("continued", "tiny-biobert, then MLM", models, held))
    curves = {
        name.name: _curve(name) for name in sorted(models.iterdir()) if name.name[0] != "." and name.name != "tagger"
    }
    unigram, masked = _unigram(splits["train"], held, len(masking.special))
    return Table(rows, unigram, masked, curves, tagged)


def _row(name: str, how: str, models: Path, held: list[Packed], alone: float | None = None) -> Row:
    folder = models / name
    with quiet():
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        score = masked_lm.score_heldout(model, held, bf16=False)
        times.append(time.perf_counter() - started)
    return Row(
        name,
        how,
        read_json(folder / "run.json")["result"]["parameters"],
        (folder / "model.safetensors").stat().st_size / 1e6,
        score.loss,
        score.accuracy,
        sum(batch.borders[-1] for batch in held) / median(times),
        alone,
    )


def _unigram(rows: Any, held: list[Packed], vocabulary: int) -> tuple[float, int]:
    """The held-out loss of a unigram model, counts of the training rows plus one; and the number of masked tokens."""
    counts = np.ones(vocabulary)
    for ids in batches.read_rows(rows, range(len(rows))):
        np.add.at(counts, ids[1:-1], 1)
    labels = torch.cat([batch.labels for batch in held])
    masked = labels[labels != -100].numpy()
    return float(math.log(counts.sum()) - np.log(counts[masked]).mean()), len(masked)


def _curve(folder: Path) -> list[tuple[int, float]]:
    lines = reporting.read(folder / reporting.METRICS)
    return [(int(line["step"]), line["heldout_loss"]) for line in lines if "heldout_loss" in line]
