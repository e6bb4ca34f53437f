"""Fine-tuning as a folder: a data set and a model in, a model with a task's head out, its devel score in the card.

In the folder: the model (`config.json` with `id2label`, `model.safetensors`, tokenizer, `README.md`), `run.json` (what
the run is made of, and its result), `metrics.jsonl`, `checkpoints/`, `tensorboard/`.
"""

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, TrainingArguments

from compactbio.documents import Document
from compactbio.documents.words import joined_signs
from compactbio.errors import UserError
from compactbio.files import write_text
from compactbio.formats.checks import counting_left_out
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import encoder_parameters, set_dropout
from compactbio.modeling.prediction import predictor_of
from compactbio.tasks import data as datasets
from compactbio.tasks.data import Data
from compactbio.tasks.model_config import JOINED_SIGNS, RELATION_CLASSES, has_independent_outputs
from compactbio.tasks.outcome import Outcome
from compactbio.tasks.registry import TASKS, Task, score
from compactbio.tasks.relation import label_of
from compactbio.tasks.settings import Settings, settings
from compactbio.tasks.statistics import interval_of
from compactbio.training import batches, engine, reporting, run_folder
from compactbio.training.cards import write_task_card
from compactbio.training.task_model import FineTuner

TRAIN_ON = ("train", "train+devel")


@dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning run came to. `devel` is the main score on devel in [0, 1] with its 95 % interval, None where
    there is no devel split or it was trained on. `epoch` is the one kept; `state` as of `training.Result`. `notes` are
    sentences on what could not be taken as it stands: training data, a head, a checkpoint; `trials` are the points of a
    search, each with its devel score, of which this run is the best.
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


@dataclass(frozen=True)
class Inputs:
    """All that a run is made of, found and checked."""

    data: Data
    source: loading.Source
    settings: Settings
    train_on: str
    labels: tuple[str, ...]
    precision: str
    tokens: int
    notes: tuple[str, ...]
    # The neighbourhoods in which a sign stays in its word (NER), by the settings or the training data.
    joined: tuple[str, ...] | None = None
    # Whether the model's own classifier, of other labels or of another task, is not to be trained on.
    fresh_head: bool = False

    @property
    def task(self) -> Task:
        return TASKS[self.data.task]

    @property
    def encoding(self) -> Settings:
        """The settings that documents are encoded with."""
        return self.settings.model_copy(update={} if self.joined is None else {JOINED_SIGNS: list(self.joined)})

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be taken up, as a JSON value."""
        named = {"format": self.data.format} if self.data.format else {}
        used = {key: value for key, value in self.data.digests.items() if key in ("train", "devel")}
        return {
            "task": self.data.task,
            "data": {"name": self.data.name, "single": self.data.single, **used, **named},
            "model": {"name": self.source.public_name(), "sha256": self.source.digest},
            "settings": self.settings.record(),
            "train_on": self.train_on,
            "labels": list(self.labels),
            "precision": self.precision,
            "tokens_per_batch": self.tokens,
        }


def finetune(
    data: str | Path | Mapping[str, str | Path],
    model: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    train_on: str = "train",
    format: str | None = None,
    name: str | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    resume: bool = False,
) -> Finetuned:
    """Fine-tune `model`, a folder or hub name, on a data set (see `tasks.data.find`, also for `format`) into the folder
    `out`.

    `overrides` are fields of `Settings`; `train_on` is "train", which keeps the best epoch by devel where there is a
    devel split, or "train+devel", which keeps the last. The test split is not read. A finished run of the same inputs
    is left alone. Raises UserError for whatever the user can mend.
    """
    out = Path(out)
    processes = PartialState(cpu=not torch.cuda.is_available())
    found = datasets.find(data, task, name, format=format)
    if train_on not in TRAIN_ON:
        raise UserError(f"{train_on!r} is nothing to train on: take {' or '.join(TRAIN_ON)}.")
    source = loading.find(model)
    source_tokenizer = loading.tokenizer_of(source)
    with counting_left_out() as left_out:
        train = found.read("train") + (found.read("devel") if train_on == "train+devel" else [])
        devel = found.read("devel") if train_on == "train" and "devel" in found.files else []
    chosen = settings(found.task, int(source.config.hidden_size), dict(overrides or {}))
    learned = chosen.joined_signs
    if found.task == "ner" and learned is None:
        learned = sorted(joined_signs(train))
    scheme = TASKS[found.task].scheme(train, chosen)
    inputs = Inputs(
        found,
        source,
        chosen,
        train_on,
        tuple(TASKS[found.task].labels(train, chosen)),
        hardware.precision(precision),
        tokens_per_batch or hardware.tokens(),
        (*left_out, *((scheme.sentence, *scheme.remarks) if scheme else ())),
        None if learned is None else tuple(learned),
    )
    if inputs.settings.max_length > source.config.max_position_embeddings:
        fits = {"max_length": source.config.max_position_embeddings}
        inputs = Inputs(**{**inputs.__dict__, "settings": inputs.settings.model_copy(update=fits)})
    _check_trains(inputs, train)
    inputs = _with_head(inputs)
    with run_folder.held(processes, out), loading.quiet():
        begun = run_folder.on_main(processes, lambda: run_folder.begin(out, inputs.identity(), resume=resume))
        if begun.result is not None:
            return Finetuned(**{**begun.result, "state": "already finished", "out": str(out)})
        if processes.is_main_process:
            sys.stderr.writelines(f"{note}\n" for note in inputs.notes[len(left_out) :])
        return _run(inputs, source_tokenizer, train, devel, out, begun, processes)


def _check_trains(inputs: Inputs, train: Sequence[Document]) -> None:
    """Refuse data that hold nothing of the task."""
    task, held = inputs.data.task, datasets.count(train)
    lacks = {
        "ner": "mention" if not held.get("mentions") else "",
        "relation": "second class" if task == "relation" and len(set(map(label_of, train))) < 2 else "",
        "qa": "question with an answer" if not any(q.answers for d in train for q in d.questions) else "",
    }[task]
    if lacks:
        counted = ", ".join(f"{number:,} {what}" for what, number in held.items())
        raise UserError(f"{inputs.data.name}: its train split has no {lacks} to learn {task} from ({counted}).")


def _with_head(inputs: Inputs) -> Inputs:
    """Decide between the classifier that the model brings and a fresh one, and put the labels in the ids' order.

    One of the same task and labels is trained on, in its own order of labels; letters do not tell labels apart.
    """
    name, config = inputs.source.public_name(), inputs.source.config
    architecture = (config.architectures or [""])[0]
    heads = [one.architecture for one in TASKS.values()]
    if not inputs.labels or (architecture and not architecture.endswith(tuple(heads))):
        return inputs
    fresh = f"A fresh head was drawn; that of {name} is not used, because"
    if architecture and not architecture.endswith(inputs.task.architecture):
        return _noted(inputs, f"{fresh} it is a {architecture}.", fresh_head=True)
    if inputs.data.task == "relation" and (config.num_labels == 1 or has_independent_outputs(config)):
        return _noted(inputs, f"{fresh} its outputs are not those of one choice among classes.", fresh_head=True)
    own = _named_labels(config, name, inputs.data.task)
    if own is None:
        unnamed = (f"{fresh} its labels have no names.",) if architecture else ()
        return _noted(inputs, *unnamed, fresh_head=True)
    order = _in_order(own, inputs.labels)
    if order is None:
        listed = ", ".join(own[:12]) + (f" and {len(own) - 12} more" if len(own) > 12 else "")
        return _noted(inputs, f"{fresh} its labels are others ({listed}).", fresh_head=True)
    if own == list(inputs.labels):
        return inputs
    kept = (
        f"The head of {name} is continued in its own order of labels: the data have them in another order or letters."
    )
    return _noted(inputs, kept, labels=order)


def _noted(inputs: Inputs, *notes: str, **changed: Any) -> Inputs:
    return replace(inputs, notes=(*inputs.notes, *notes), **changed)


def _named_labels(config: PretrainedConfig, name: str, task: str) -> list[str] | None:
    """The labels of a model's classifier by id, None where its configuration only numbers them."""
    try:
        return TASKS[task].model_labels(config, name, [])
    except UserError:
        own = [str(label) for label in config.id2label.values()]
        return None if all(label.startswith("LABEL_") for label in own) else own


def _in_order(own: Sequence[str], labels: Sequence[str]) -> tuple[str, ...] | None:
    """`labels` in the order of a model's `own`, None where they are others; small and capital letters are one."""
    for spelling in (str, str.casefold):
        spelt = {spelling(label): label for label in labels}
        if len(spelt) == len(labels) and sorted(map(spelling, own)) == sorted(spelt):
            return tuple(spelt[spelling(label)] for label in own)
    return None


def _draw_classifier(model: PreTrainedModel, seed: int) -> None:
    """Draw the last layer of a classifier as the families' own code does."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.classifier.weight.normal_(0.0, model.config.initializer_range, generator=draw)
        model.classifier.bias.zero_()


def _run(
    inputs: Inputs,
    tokenizer: PreTrainedTokenizerFast,
    train: Sequence[Document],
    devel: Sequence[Document],
    out: Path,
    begun: run_folder.Begun,
    processes: PartialState,
) -> Finetuned:
    chosen, task = inputs.settings, inputs.task
    encoded = task.encode(train, tokenizer, inputs.labels, inputs.encoding)
    rows = [row for row in encoded.rows if (row.labels != -100).any()]
    if not rows:
        raise UserError(f"{inputs.data.name}: nothing in its train split carries a label.")
    model = loading.load_for(inputs.source, task.auto, inputs.labels, chosen.seed, new_head=True)
    if scheme := task.scheme(train, chosen):
        model.config.update({RELATION_CLASSES: scheme.memory()})
    if inputs.joined is not None:
        model.config.update({JOINED_SIGNS: list(inputs.joined)})
    if inputs.fresh_head:
        _draw_classifier(model, chosen.seed)
    # The fast attention kernels have no dropout; the rate of the hidden states stays the model's own.
    set_dropout(model, hidden=None, attention=0.0)
    per_epoch = math.ceil(len(rows) / chosen.batch_size)
    steps = batches.Steps(
        batches.Labelled(rows, chosen.seed),
        chosen.batch_size,
        inputs.tokens,
        math.ceil(len(rows) * chosen.epochs / chosen.batch_size),
        processes.process_index,
        processes.num_processes,
    )
    examination = _examination(inputs, devel, tokenizer) if devel else None
    arguments = _arguments(inputs, out, per_epoch, steps.count, measures=bool(devel))
    reporters = reporting.reporters(out, f"{inputs.data.name} ({inputs.data.task})")
    try:
        outcome = engine.fit(
            FineTuner(model, inputs.data.task),
            steps,
            examination,
            arguments,
            reporters,
            begun.checkpoint,
            train_key_biases=False,
        )
    finally:
        for reporter in reporters:
            reporter.close()
    stopped = outcome.stopped and outcome.step < steps.count
    state = "stopped" if stopped else "finished"
    in_epochs = chosen.batch_size / len(rows)
    epoch = min(round(outcome.step * in_epochs, 2), chosen.epochs)
    notes = (*inputs.notes, *encoded.notes, *begun.notes)
    result = Finetuned(state, str(out), inputs.data.task, outcome.step, epoch, task.metric, task.protocol, notes=notes)
    if stopped or not processes.is_main_process:
        return result
    return _finish(inputs, out, model, tokenizer, devel, result, in_epochs)


def _examination(inputs: Inputs, devel: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> engine.Examination:
    """Scores on devel, where every process scores the whole: it is small beside the training."""
    encoded = inputs.task.encode(devel, tokenizer, inputs.labels, inputs.encoding)

    def measure(model: PreTrainedModel) -> dict[str, float]:
        outcome = _score(inputs, model, devel, encoded)
        return {f"devel_{name}": value for name, value in outcome.scores.items()}

    return engine.Examination(measure, f"devel_{inputs.task.metric}", greater_is_better=True)


def _score(inputs: Inputs, model: PreTrainedModel, documents: Sequence[Document], encoded: Any) -> Outcome:
    task = inputs.data.task
    predictor = predictor_of(model, task, inputs.tokens, inputs.precision)
    return score(predictor, task, documents, encoded, inputs.labels, model.config)[1]


def _arguments(inputs: Inputs, out: Path, per_epoch: int, steps: int, *, measures: bool) -> TrainingArguments:
    chosen = inputs.settings
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=steps,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * chosen.warmup),
        weight_decay=chosen.weight_decay,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=chosen.seed,
        bf16=inputs.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps" if measures else "no",
        eval_steps=per_epoch,
        # The first epochs are never the best; measuring them would cost as much as it does later.
        eval_delay=per_epoch * (chosen.epochs // 2),
        save_strategy="steps",
        save_steps=per_epoch,
        logging_steps=max(1, min(50, steps // 20)),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        ignore_data_skip=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        ddp_find_unused_parameters=True,
        report_to=[],
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _finish(
    inputs: Inputs,
    out: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    devel: Sequence[Document],
    result: Finetuned,
    in_epochs: float,
) -> Finetuned:
    """Write the model that was kept, tokenizer and card into `out`; `run.json` last, which ends the run."""
    kept = run_folder.best(out / "checkpoints")
    with run_folder.refusing_full_disk(out):
        if kept is not None:
            best = loading.find(str(out / "checkpoints" / run_folder.BEST))
            model = loading.load_for(best, inputs.task.auto)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        if devel:
            encoded = inputs.task.encode(devel, tokenizer, inputs.labels, inputs.encoding)
            outcome = _score(inputs, model, devel, encoded)
            interval = interval_of(outcome)
            step = kept["step"] if kept else result.step
            epoch = min(round(step * in_epochs, 2), inputs.settings.epochs)
            result = replace(result, epoch=epoch, devel=outcome.main, interval=interval)
        card = write_task_card(out.name, inputs.identity(), asdict(result), encoder_parameters(model), [])
        write_text(out / "README.md", card)
        run_folder.finish(out, inputs.identity(), {**asdict(result), "out": out.name})
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return result
