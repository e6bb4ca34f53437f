"""The demo's steps: corpus, teacher, students, their scores on three tasks beside the teacher's, an export, a text."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM

from compactbio import corpus as corpora
from compactbio import formats, recipes
from compactbio.annotate import Annotator
from compactbio.comparison import runs as comparison
from compactbio.comparison.suite import DataSet, Model, Suite
from compactbio.comparison.table import Table as Scores
from compactbio.comparison.table import build
from compactbio.demo import data
from compactbio.deploy import profile
from compactbio.deploy.export import export
from compactbio.documents import Span
from compactbio.errors import UserError
from compactbio.evaluation import scoring
from compactbio.files import atomic_folder, read_json, read_json_or_none, write_json
from compactbio.modeling import hardware, loading
from compactbio.modeling.sharing import building
from compactbio.processes import processor
from compactbio.progress import Silent
from compactbio.recipes import Recipe
from compactbio.training import reporting
from compactbio.training.pretraining import train

TEACHER = "teacher"
PRECISION = "fp32"  # the same on every machine
KEPT = 0.9  # the share of the teacher's mean score that a student is to keep
_SHOWN = 3  # test documents
_NEEDED = {"matplotlib": "plots", "onnx": "onnx", "onnxruntime": "onnx", "onnxscript": "onnx"}
_MLM_ALONE = {term.value: 0.0 for term in recipes.LossTerm} | {"mlm": 1.0}
_COMMON = {
    "max_length": data.MAX_LENGTH,
    "hidden_dropout": 0.0,
    "mlm_probability": 0.3,
    "batch_size": 16,
    "save_every": 1000,
}
_LAYER = {"layers": 1, "learning_rate": 2e-3}
_TINY = {"layers": 2, "hidden_size": 64, "intermediate_size": 128, "heads": 4, "learning_rate": 8e-3}
_CONTINUED = {"learning_rate": 2e-3}
_WIDTH = 128
_SPREAD = 0.06  # of weights; BERT's 0.02 is for a width of 768
_FINETUNED: dict[str, dict[str, Any]] = {"ner": {"epochs": 3}, "relation": {"epochs": 4}, "qa": {"epochs": 6}}
_TUNING = {"batch_size": 16, "learning_rate": 3e-3, "max_length": data.MAX_LENGTH}


@dataclass(frozen=True)
class Student:
    """A model to make: a packaged `recipe` scaled down by `changes`, or without one, from random weights by MLM.

    `init` is the student that it continues. Of a distilled one, `alone` is the student of the same shape that had no
    teacher, and `undistilled` the one that began with the same layers of the teacher, but was trained by MLM alone.
    """

    name: str
    how: str
    changes: dict[str, Any]
    recipe: str = ""
    init: str = ""
    alone: str = ""
    undistilled: str = ""


_FIRST, _LAST = "teacher's first layer", "teacher's last layer"
STUDENTS = (
    Student(
        "distil-biobert",
        f"{_FIRST}, distilled",
        _LAYER,
        "distil-biobert",
        alone="one-layer-alone",
        undistilled="first-layer-alone",
    ),
    Student("compact-biobert", f"{_LAST}, distilled", _LAYER, "compact-biobert", alone="one-layer-alone"),
    Student("tiny-biobert", "random weights, distilled", _TINY, "tiny-biobert", alone="tiny-alone"),
    Student("bio-tinybert", "tiny-biobert, continued by MLM", _CONTINUED, "bio-tinybert", init="tiny-biobert"),
    Student("first-layer-alone", f"{_FIRST}, MLM alone", {**_LAYER, "loss": _MLM_ALONE}, "distil-biobert"),
    Student("one-layer-alone", "random weights, MLM alone", {"layers": 1}),
    Student("tiny-alone", "random weights, MLM alone", {**_TINY, "loss": _MLM_ALONE}, "tiny-biobert"),
)


@dataclass(frozen=True)
class Scale:
    """How much is done: documents, steps of teacher and students, and the students that are made."""

    sizes: data.Sizes = field(default_factory=data.Sizes)
    teacher_steps: int = 1400
    student_steps: int = 300
    students: tuple[Student, ...] = STUDENTS


@dataclass(frozen=True)
class Row:
    """A model of the table: what it is, its size, its speed, its main scores by task in [0, 1], their mean, and the
    mean over the teacher's."""

    model: str
    how: str
    steps: int
    heldout_loss: float
    parameters: int
    megabytes: float
    tokens_per_second: float
    scores: dict[str, float]
    mean: float
    share: float


@dataclass(frozen=True)
class Text:
    """A text of test names as the exported model annotates it, beside the gold; `differs` is empty where all agree."""

    text: str
    found: tuple[Span, ...]
    gold: tuple[Span, ...]
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The demo's result. `scores` are those of all models on all tasks, with intervals; `curves` (step, held-out
    loss) by model; `exported` is the record of the export, with the F1 of both models on test."""

    rows: tuple[Row, ...]
    verdicts: tuple[str, ...]
    scores: Scores
    curves: dict[str, list[tuple[int, float]]]
    exported: dict[str, Any]
    annotated: tuple[Text, ...]
    machine: str


def check() -> None:
    """Raise UserError where something that the demo needs is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({_NEEDED[name] for name in missing}))
        raise UserError(f"The demo needs {', '.join(missing)}: pip install 'compactbio[{extras}]'.")


@profile.torch_threads(1)  # models this small are slower on two
def demo(
    out: Path,
    scale: Scale | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),  # noqa: T201
) -> Result:
    """Run the demo into the folder `out`, or resume an earlier one of the same scale.

    On one machine the result is the same each time, except for the speeds. Raises UserError for a folder of something
    else, and KeyboardInterrupt where a signal stopped a run.
    """
    scale = scale or Scale()
    models, made = out / "models", scale.students
    data.open_folder(out)
    say(f"1/6 Writing {scale.sizes.corpus:,} synthetic documents, their corpus, and three data sets ...")
    corpus, tasks = data.build_corpus(out, scale.sizes), data.build_tasks(out, scale.sizes)
    say("2/6 Pre-training the teacher ...")
    _pretrain(TEACHER, 2, scale.teacher_steps, corpus, models)
    say(f"3/6 Making {len(made)} students, with a teacher and without ...")
    for one in made:
        _make_student(one, scale, corpus, models)
    names = (TEACHER, *(one.name for one in made))
    say(f"4/6 Fine-tuning and scoring {len(names)} models on {len(tasks)} tasks ...")
    scores = _score({name: models / name for name in names}, tasks, out / "tuned", say)
    say("5/6 Exporting the best student to int8, and annotating a text ...")
    if not _mean(scores, TEACHER):
        raise RuntimeError("the demo's teacher scored 0 on all tasks, so no student can be compared with it")
    distilled = [one.name for one in made if one.alone]
    best = max(distilled, key=lambda name: (_mean(scores, name), name))
    [tagger] = (out / "tuned" / comparison.RUNS).glob(f"ner-{best}-??????/seed-0/model")
    exported = _export(best, tagger, tasks["ner"], out, say)
    annotated = _annotate(Path(exported["out"]), tasks["ner"])
    say("6/6 Measuring speed ...")
    rows = _rows(scores, {TEACHER: "random weights, MLM", **{one.name: one.how for one in made}}, models)
    result = Result(
        rows,
        tuple(_verdicts(rows, made)),
        scores,
        {name: _curve(models / name) for name in names},
        exported,
        annotated,
        f"{processor()}, one thread, {PRECISION}",
    )
    write_json(out / "table.json", asdict(result))
    return result


def _pretrain(name: str, layers: int, steps: int, corpus: Path, models: Path) -> None:
    """Pre-train a BERT of some layers from random weights, by MLM alone."""
    start = corpus.parent / "starts" / f"{layers}-layers"
    if not start.exists():
        _write_start(start, layers, corpus)
    recipe = {"name": name, "kind": "continue", "start": "checkpoint", "loss": {"mlm": 1.0}}
    rate = {"learning_rate": 2e-3, "weight_decay": 0.01}
    _make(Recipe.model_validate({**recipe, **_COMMON, **rate, **_length(steps)}), corpus, models / name, init=start)


def _write_start(folder: Path, layers: int, corpus: Path) -> None:
    """Write a model of random weights whose positions are sines (Vaswani et al. 2017): it learns order sooner."""
    tokenizer = corpora.tokenizer(corpus)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * _WIDTH,
        max_position_embeddings=data.MAX_LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=_SPREAD,
    )
    with building(seed=0), loading.quiet():
        model = BertForMaskedLM(config)
        angles = torch.arange(data.MAX_LENGTH)[:, None] / 10_000 ** (torch.arange(0, _WIDTH, 2) / _WIDTH)
        sines = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        model.bert.embeddings.position_embeddings.weight.data.copy_(_SPREAD * sines)
        with atomic_folder(folder) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)


def _length(steps: int) -> dict[str, int]:
    return {"steps": steps, "warmup_steps": min(40, steps // 10), "eval_every": max(1, steps // 8)}


def _make_student(one: Student, scale: Scale, corpus: Path, models: Path) -> None:
    if not one.recipe:
        _pretrain(one.name, one.changes["layers"], scale.student_steps, corpus, models)
        return
    recipe = recipes.load(one.recipe, **{**_COMMON, **_length(scale.student_steps), **one.changes})
    init = models / one.init if one.init else None
    _make(recipe, corpus, models / one.name, None if init else models / TEACHER, init)


def _make(recipe: Recipe, corpus: Path, folder: Path, teacher: Path | None = None, init: Path | None = None) -> None:
    resume = (folder / "run.json").exists()
    made = train(recipe, corpus, folder, teacher=teacher, init=init, precision=PRECISION, resume=resume)
    if made.state == "stopped":
        raise KeyboardInterrupt


def _score(models: dict[str, Path], tasks: dict[str, Path], out: Path, say: Callable[[str], None]) -> Scores:
    suite = Suite(
        models={name: Model(path=str(place)) for name, place in models.items()},
        data={task: DataSet(path=place, settings=_FINETUNED[task]) for task, place in tasks.items()},
        baseline=TEACHER,
        teacher=TEACHER,
        settings=_TUNING,
    )
    try:
        cells = comparison.run_suite(suite, out, precision=PRECISION, report=say)
    except comparison.Stopped:
        raise KeyboardInterrupt from None
    failed = [cell for cell in cells if cell.state != "done"]
    if failed:
        raise RuntimeError(f"{failed[0].model} could not be scored on {failed[0].data}: {failed[0].error}")
    return build(cells, TEACHER, TEACHER)


def _mean(scores: Scores, model: str) -> float:
    return fmean(row.mean or 0.0 for row in scores.rows if row.model == model)


def _export(best: str, tagger: Path, tasks: Path, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Export the tagger of the best student to int8 where the gate lets it through, else to fp32; gives the record."""
    record, refused, place = out / "export.json", "", out / "exported"
    if isinstance(kept := read_json_or_none(record), dict):
        return {**kept, "out": str(place)}  # the folder may have had another name then
    try:
        made = export(tagger, "onnx-int8", place, data=tasks, split="devel")
    except UserError as error:
        refused = str(error)
        made = export(tagger, "onnx", place, data=tasks, split="devel")
    test = {
        "original": scoring.evaluate(tagger, tasks, precision=PRECISION).outcome.main,
        "exported": scoring.evaluate(place, tasks, runtime=made.exported.runtime).outcome.main,
    }
    found = {"model": best, "refused": refused, "test": test, **asdict(made)}
    say(f"{best} as {made.exported.runtime}: F1 {100 * test['exported']:.2f} of {100 * test['original']:.2f} on test")
    write_json(record, found)
    return found


def _annotate(model: Path, tasks: Path) -> tuple[Text, ...]:
    """The first test documents, annotated by the exported model, beside their gold."""
    documents = list(formats.read(tasks / "test.jsonl"))[:_SHOWN]
    texts = []
    for one, entities in zip(documents, Annotator.from_pretrained(model)(documents), strict=True):
        found = tuple(Span(entity.start, entity.end, entity.type) for entity in entities)
        wrong = [("missed", span) for span in one.spans if span not in found]
        wrong += [("not in the gold", span) for span in found if span not in one.spans]
        differs = tuple(f"{how}: {one.text[span.start : span.end]} ({span.type})" for how, span in wrong)
        texts.append(Text(one.text, found, one.spans, differs))
    return tuple(texts)


def _rows(scores: Scores, how: dict[str, str], models: Path) -> tuple[Row, ...]:
    speeds = _speeds([models / name for name in how])
    rows = []
    for (name, words), speed in zip(how.items(), speeds, strict=True):
        result = read_json(models / name / "run.json")["result"]
        trained = (result["step"], result["heldout_loss"], result["parameters"])
        megabytes = (models / name / "model.safetensors").stat().st_size / 1e6
        by_task = {one.data: one.mean or 0.0 for one in scores.rows if one.model == name}
        mean, share = _mean(scores, name), _mean(scores, name) / _mean(scores, TEACHER)
        rows.append(Row(name, words, *trained, megabytes, speed, by_task, mean, share))
    return tuple(rows)


def _speeds(folders: Sequence[Path]) -> list[float]:
    """Tokens a second of each encoder, measured in turns."""
    conditions = profile.Conditions(
        processor(), hardware.device(), 1, PRECISION, torch.__version__, 32, data.MAX_LENGTH, 8
    )
    with loading.quiet():
        loaded = [profile.load(loading.find(folder), PRECISION) for folder in folders]
    times = profile.take_times(loaded, conditions, profile.ROUNDS, Silent())
    return [conditions.sentences * conditions.sentence_tokens / one.seconds_per_batch for one in times]


def _verdicts(rows: Sequence[Row], made: Sequence[Student]) -> Iterator[str]:
    """What each distilled student keeps of the teacher's mean score, and whether it beats the ones by MLM alone."""
    means, shares = {one.model: 100 * one.mean for one in rows}, {one.model: one.share for one in rows}
    for one in made:
        if not one.alone:
            continue
        own, kept = means[one.name], shares[one.name] >= KEPT
        sentence = (
            f"{one.name} {'keeps' if kept else 'does NOT keep'} {KEPT:.0%} of the teacher's mean score "
            f"({shares[one.name]:.1%}) and {_beats(own, means[one.alone])} the same shape from random weights by MLM "
            f"alone ({own:.2f} and {means[one.alone]:.2f})"
        )
        if one.undistilled:
            other = means[one.undistilled]
            sentence += f"; it {_beats(own, other)} the same layers of the teacher trained by MLM alone ({other:.2f})"
        yield f"{sentence}."


def _beats(own: float, other: float) -> str:
    return "beats" if own > other else "does NOT beat"


def _curve(folder: Path) -> list[tuple[int, float]]:
    lines = reporting.read(folder / reporting.METRICS)
    return [(int(line["step"]), line["heldout_loss"]) for line in lines if "heldout_loss" in line]
