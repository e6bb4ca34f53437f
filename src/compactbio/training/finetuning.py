"""Fine-tuning: from a data set and a model to a folder with a model for the task, its devel score in the card.

In the folder: the model (`config.json` with `id2label`, `model.safetensors`, tokenizer, `README.md`),
`calibration.json` (how its scores are to be read, by a devel split), `run.json` (what the run is made of, and its
result), `metrics.jsonl`, `checkpoints/`, `tensorboard/`.
"""

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compactbio import formats
from compactbio.documents import Document
from compactbio.documents.words import joined_signs
from compactbio.errors import UserError, check_counts
from compactbio.files import refuse_inside, value_digest, write_text
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import encoder_parameters, longest, set_dropout
from compactbio.modeling.packing import NO_LABEL, Row
from compactbio.modeling.students import with_fewer_layers
from compactbio.modeling.tokenizers import for_words, reading_digest
from compactbio.tasks import calibration_file, ner, units
from compactbio.tasks.outcome import interval_of
from compactbio.tasks.registry import TASKS, Task
from compactbio.tasks.relation_classes import Scheme
from compactbio.tasks.settings import (
    INDEPENDENT_TYPES,
    IOB2,
    JOINED_SIGNS,
    RELATION_CLASSES,
    TAG_SCHEME,
    Settings,
    settings,
)
from compactbio.training import batches, engine, reporting, run_folder
from compactbio.training.cards import finetuned_card
from compactbio.training.corpora import Corpora, partly_labelled
from compactbio.training.corpora import read as read_corpora
from compactbio.training.devel import Devel
from compactbio.training.soft_labels import find_teachers
from compactbio.training.task_model import TaskModel, choose_head, draw_classifier
from compactbio.training.teaching import ROWS, Taught, Teaching, settings_of_teaching, taught_rows
from compactbio.training.unlabelled import Texts


@dataclass(frozen=True)
class Finetuned:
    """The result of a fine-tuning run.

    Attributes:
        state: "finished", "already finished" or "stopped".
        out: the folder of the run.
        task: "ner", "relation" or "qa".
        step: the last step.
        epoch: the epoch that was kept.
        metric: the main metric of the task.
        protocol: how it is counted.
        devel: the main score on devel in [0, 1]; of several data sets the mean; None without a devel split, or where
            it was trained on.
        interval: its 95 % interval; of several data sets that of the mean score.
        corpora: of several data sets the name, types and score on devel of each, with those by type.
        notes: sentences on what could not be taken as it is: training data, a head, a checkpoint.
        trials: the points of a search, each with its devel score, of which this run is the best.
        unlabelled: numbers of unlabelled documents and rows, by what became of them.
        data: names and SHA-256 of what was trained on and of devel, as in `run.json`.
        seed, precision: of this one run.
    """

    state: str
    out: str
    task: str
    step: int
    epoch: float
    metric: str
    protocol: str
    devel: float | None = None
    interval: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    trials: tuple[dict[str, Any], ...] = ()
    unlabelled: dict[str, int] = field(default_factory=dict)
    corpora: tuple[dict[str, Any], ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    precision: str = ""


@dataclass(frozen=True)
class Inputs:
    """All that a run is made of, found and checked."""

    corpora: Corpora
    source: loading.Source
    tokenizer: PreTrainedTokenizerFast
    # The digest of how the source's own tokenizer reads texts.
    reading: str
    settings: Settings
    labels: tuple[str, ...]
    # How labels become classes (relations).
    scheme: Scheme | None
    precision: str
    tokens: int
    notes: tuple[str, ...]
    # The neighbourhoods in which a punctuation character belongs to a word (NER).
    joined: list[str] | None
    fresh_head: bool
    layers: int | None
    teaching: Teaching | None

    @property
    def task(self) -> Task:
        return TASKS[self.corpora.task]

    @property
    def places(self) -> list[Path]:
        """The files and folders of data and texts that are read."""
        texts = self.teaching.texts if self.teaching else None
        read = (*texts.files, *texts.folders) if texts else ()
        return [*(place for part in self.corpora.parts for place in part.data.places), *read]

    @property
    def encoding(self) -> Settings:
        """The settings that documents are encoded with."""
        return self.settings.model_copy(update={JOINED_SIGNS: self.joined})

    def encode(self, documents: Sequence[Document]) -> Any:
        """The rows of documents, as for the task's `encode`."""
        return self.task.encode(documents, self.tokenizer, self.labels, self.encoding)

    def encode_unlabelled(self, documents: Sequence[Document]) -> Any:
        """The rows of documents, as for the task's `encode`, whatever they are labelled with."""
        return self.encode(units.without_labels(self.corpora.task, documents, (*self.labels, "")[0]))

    def devel(self) -> Devel | None:
        """The devel splits of the data sets; None where none has one."""
        parts = tuple(part for part in self.corpora.parts if part.devel)
        encoded = tuple(self.encode(part.devel) for part in parts)
        return Devel(parts, encoded, self.labels, self.tokens, self.precision) if parts else None

    def labelled_rows(self) -> tuple[Any, Tensor | None, list[Row]]:
        """The training documents as for the task's `encode`, what their labels may stand for (see `partly_labelled`),
        and the rows with labels. Raises UserError where there are none."""
        encoded, allowed = self.encode(self.corpora.train), None
        if len(self.corpora.parts) > 1:
            encoded, allowed = partly_labelled(encoded, self.corpora, self.labels)
        rows = [row for row in encoded.rows if (row.labels != NO_LABEL).any()]
        if not rows:
            raise UserError(f"{self.corpora.name}: nothing in its train split carries a label.")
        return encoded, allowed, rows

    def start(self) -> PreTrainedModel:
        """The model to train, as it is before the first step."""
        model = loading.load_for(self.source, self.corpora.task, self.labels, self.settings.seed, new_head=True)
        if self.layers is not None:
            model = with_fewer_layers(model, self.layers, self.settings.seed)
        if self.scheme:
            model.config.update({RELATION_CLASSES: self.scheme.memory()})
        if self.joined is not None:
            apart = self.corpora.labelled_apart(self.labels)
            model.config.update({JOINED_SIGNS: self.joined, TAG_SCHEME: IOB2, INDEPENDENT_TYPES: apart})
        if self.fresh_head:
            draw_classifier(model, self.settings.seed)
        # The fast attention kernels have no dropout; the rate of the hidden states stays as the model has it.
        set_dropout(model, hidden=None, attention=0.0)
        return model

    def record(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as a JSON value."""
        return {
            "task": self.corpora.task,
            "data": self.corpora.record(),
            "model": {"name": self.source.public_name(), "sha256": self.source.digest},
            "tokenizer": self.reading,
            "settings": self.settings.record(),
            "train_on": self.corpora.train_on,
            "labels": list(self.labels),
            "precision": self.precision,
            "tokens_per_batch": self.tokens,
            "layers": self.layers,
            **(self.teaching.record() if self.teaching else {"teachers": None, "unlabelled": None}),
        }


_FOUND_NOTHING = "Nothing that it finds on devel is right: train it for more epochs, or on more data."


def finetune(
    data: str | Path | Mapping[str, str | Path] | Sequence[str | Path],
    model: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    **options: Any,
) -> Finetuned:
    """Fine-tune a model on a data set, with teachers also from what they say of its and of unlabelled texts.

    The test split is not read, but to leave its documents out of unlabelled texts and of other data sets. A finished
    run of the same inputs is left as it is.

    Args:
        data, model, **options: as for `collect`.
        out: the folder of the run, and then of the model.
        resume: whether an unfinished run in `out` is resumed.

    Raises UserError for whatever the user can fix.
    """
    out, inputs = Path(out), collect(data, model, **options)
    refuse_inside(out, inputs.places)
    with loading.quiet(), run_folder.open_run(out, inputs.record(), resume=resume) as begun:
        if begun.result is not None:
            return Finetuned(**begun.result)
        if run_folder.processes().is_main_process:
            sys.stderr.writelines(f"{note}\n" for note in inputs.notes)
        return _run(inputs, out, begun)


def collect(
    data: str | Path | Mapping[str, str | Path] | Sequence[str | Path],
    model: str | Path,
    *,
    task: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    train_on: str = "train",
    teachers: Sequence[str | Path] | Mapping[str, Path] = (),
    unlabelled: Sequence[str | Path] = (),
    layers: int | None = None,
    workers: int | None = None,
    on_cluster: bool = False,
    format: str | None = None,
    name: str | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Inputs:
    """Find and check all that a run is made of. Raises UserError for whatever the user can fix.

    Args:
        overrides: fields of `tasks.settings.Settings`.
        teachers: or their folders by the names that records and the card have.
        name: the data set's name in records and the card.

    The others are those of `compactbio.finetune`.
    """
    tokens_per_batch = hardware.check_work(precision, tokens_per_batch)
    layers, workers = check_counts(layers=layers, workers=workers)
    corpora = read_corpora(data, task, name, format=format, train_on=train_on)
    source = loading.find(model)
    tokenizer = loading.tokenizer_of(source)
    reading = reading_digest(tokenizer)
    task, train = corpora.task, corpora.train
    kind = TASKS[task]
    if task == "ner":
        tokenizer = for_words(tokenizer)  # saved with the model, so that transformers cuts words as it was trained
    asked = settings(task, int(source.config.hidden_size), dict(overrides or {}))
    asked = settings_of_teaching(asked, teachers=bool(teachers), texts=bool(unlabelled))
    chosen = asked.within(longest(source.config))
    joined = chosen.joined_signs
    if task == "ner" and joined is None:
        joined = sorted(joined_signs(train))
    scheme = kind.scheme(train, chosen)
    head = choose_head(source, task, kind.labels(train, chosen))
    decided = (scheme.sentence, *scheme.remarks) if scheme else ()
    if task == "ner" and corpora.labelled_apart(head.labels):
        decided = (
            "The data sets are labelled for different types, so each type is decided for itself, and mentions of "
            "different types may overlap.",
        )
    inputs = Inputs(
        corpora=corpora,
        source=source,
        tokenizer=tokenizer,
        reading=reading,
        settings=chosen,
        labels=head.labels,
        scheme=scheme,
        fresh_head=head.fresh,
        joined=joined,
        precision=hardware.precision(precision, source.config),
        tokens=tokens_per_batch or hardware.tokens(),
        notes=(*corpora.notes, *decided, *head.notes),
        layers=layers,
        teaching=None,
    )
    if not teachers:
        if workers or on_cluster:
            raise UserError(
                "Workers and a cluster compute what teachers say: name a teacher, or leave them out.",
                setting="workers" if workers else "cluster",
            )
        return inputs
    # A teacher may read longer rows than the student can.
    taught_by = asked.model_copy(update={JOINED_SIGNS: joined})
    found = find_teachers(teachers, task, inputs.labels, taught_by, scheme, inputs.precision)
    if not unlabelled:
        return replace(inputs, teaching=Teaching(found, None, workers, on_cluster))
    sources, folders = formats.find_texts(unlabelled), tuple(filter(Path.is_dir, map(Path, unlabelled)))
    texts = Texts(sources.files, folders, task, corpora.held_out())
    notes = (*inputs.notes, *(f"Unlabelled texts: {note}." for note in sources.notes()))
    return replace(inputs, teaching=Teaching(found, texts, workers, on_cluster), notes=notes)


def _run(inputs: Inputs, out: Path, begun: run_folder.Begun) -> Finetuned:
    chosen, task, corpora, processes = inputs.settings, inputs.task, inputs.corpora, run_folder.processes()
    if processes.num_processes > chosen.batch_size:
        raise UserError(
            f"{processes.num_processes} processes cannot share a step of {chosen.batch_size} rows: start fewer."
        )
    encoded, allowed, labelled = inputs.labelled_rows()
    taught = Taught(labelled, {}, ())
    model = inputs.start()
    if inputs.teaching is not None and chosen.distil_weight:
        nothing = inputs.scheme.negatives if inputs.scheme else ("O",)
        encode, labels = inputs.encode_unlabelled, inputs.labels
        reading = value_digest([inputs.reading, inputs.encoding.record()])
        taught = taught_rows(inputs.teaching, corpora, encode, encoded, labels, nothing, chosen, reading, out)
    rows = taught.rows
    per_epoch = math.ceil(len(rows) / chosen.batch_size)
    source, count = batches.Labelled(rows, chosen.seed), math.ceil(len(rows) * chosen.epochs / chosen.batch_size)
    rank, world = processes.process_index, processes.num_processes
    steps = batches.Steps(source, chosen.batch_size, inputs.tokens, count, rank, world)
    devel = inputs.devel()
    arguments = engine.training_arguments(
        out / run_folder.CHECKPOINTS,
        inputs.precision,
        max_steps=count,
        learning_rate=chosen.learning_rate,
        warmup_steps=round(count * chosen.warmup),
        weight_decay=chosen.weight_decay,
        max_grad_norm=1.0,
        seed=chosen.seed,
        eval_strategy="steps" if devel else "no",
        eval_steps=per_epoch,
        # The first epochs are rarely the best; scoring them would cost as much as it does later.
        eval_delay=per_epoch * (chosen.epochs // 2),
        save_steps=per_epoch,
        ddp_find_unused_parameters=True,
    )
    module = TaskModel(model, corpora.task, chosen.distil_weight or 0.0, chosen.temperature or 1.0, allowed)
    validation = devel.validation() if devel else None
    with reporting.reporters(out, f"{corpora.name} ({corpora.task})") as callbacks:
        outcome = engine.fit(module, steps, validation, arguments, callbacks, begun.checkpoint)
    stopped = outcome.stopped and outcome.step < count
    state, done, in_epochs = "stopped" if stopped else "finished", outcome.step, chosen.batch_size / len(rows)
    epoch = min(round(done * in_epochs, 2), chosen.epochs)
    unlearnable = ner.unlearnable(corpora.train, encoded.sentences) if corpora.task == "ner" else ()
    notes = (*inputs.notes, *encoded.notes, *unlearnable, *taught.notes, *begun.notes)
    result = Finetuned(
        state, str(out), corpora.task, done, epoch, task.metric, task.protocol, notes=notes, unlabelled=taught.numbers,
        data=corpora.record(), seed=chosen.seed, precision=inputs.precision,
    )  # fmt: skip
    if stopped or not processes.is_main_process:
        return result
    return _finish(inputs, out, model, devel, result, in_epochs)


def _finish(
    inputs: Inputs, out: Path, model: PreTrainedModel, devel: Devel | None, result: Finetuned, in_epochs: float
) -> Finetuned:
    """Write the model that was kept, tokenizer and card into `out`; `run.json` last, which ends the run."""
    kept = run_folder.best(out / run_folder.CHECKPOINTS)
    with run_folder.refusing_full_disk(out):
        if kept is not None:
            best = loading.find(out / run_folder.CHECKPOINTS / run_folder.BEST)
            model = loading.load_for(best, inputs.corpora.task).to(hardware.torch_device())
        model.save_pretrained(out, save_original_format=False)
        inputs.tokenizer.save_pretrained(out)
        if devel is not None:
            outcomes = devel.outcomes(model)
            found_nothing = () if any(outcome.main for outcome in outcomes) else (_FOUND_NOTHING,)
            step = kept["step"] if kept else result.step
            epoch = min(round(step * in_epochs, 2), inputs.settings.epochs)
            result = replace(
                result,
                epoch=epoch,
                devel=fmean([outcome.main for outcome in outcomes]),
                interval=interval_of(*outcomes),
                notes=(*result.notes, *found_nothing, *(n for n in devel.notes(outcomes) if n not in result.notes)),
                corpora=devel.records(outcomes) if len(inputs.corpora.parts) > 1 else (),
            )
            devel.calibrate(out, model, inputs.corpora.name)
        finish(out, inputs.record(), result, model)
    for done in (run_folder.CHECKPOINTS, ROWS):
        shutil.rmtree(out / done, ignore_errors=True)
    return result


def finish(out: Path, inputs: dict[str, Any], result: Finetuned, model: PreTrainedModel) -> None:
    """Write the card of a run whose model is in `out`, and `run.json` last, which ends it."""
    name, calibrations = out.resolve().name, calibration_file.summary(out)
    card = finetuned_card(name, inputs, asdict(result), encoder_parameters(model), calibrations=calibrations)
    write_text(out / "README.md", card)
    run_folder.finish(out, inputs, asdict(result))
