"""A training run as a folder: begun, resumed or found finished, and at its end a model that others can load.

In the folder: the student (`config.json`, `model.safetensors`, tokenizer, `README.md`), `recipe.yaml` as run,
`run.json` (what the run is made of, and its result), `metrics.jsonl`, `checkpoints/`, `tensorboard/`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from transformers import PreTrainedModel, TrainingArguments

from compactbio import corpus as corpora
from compactbio import hub
from compactbio.errors import UserError
from compactbio.files import write_text
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import encoder_parameters
from compactbio.modeling.students import build_student, random_student
from compactbio.objectives.terms import TERMS
from compactbio.recipes import Recipe
from compactbio.training import batches, engine, masked_lm, reporting, run_folder
from compactbio.training.cards import pretrained_card
from compactbio.training.masked_lm import Masking

STAYS = ["checkpoints/*", "tensorboard/*", ".*"]


@dataclass(frozen=True)
class Result:
    """What a run came to. Losses are in nats a masked token; None where nothing was held out, or there is no teacher.

    `state` is "finished", "already finished" or "stopped"; `step` is the last step, `best_step` the one kept. `notes`
    are sentences on checkpoints that were not complete and so were passed over.
    """

    state: str
    out: str
    step: int
    parameters: int
    best_step: int | None = None
    heldout_loss: float | None = None
    heldout_accuracy: float | None = None
    teacher_heldout_loss: float | None = None
    teacher_heldout_accuracy: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """All that a run is made of, found and checked; nothing is loaded yet."""

    recipe: Recipe
    corpus: Path
    manifest: dict[str, Any]
    teacher: loading.Source | None
    init: loading.Source | None
    precision: str
    tokens: int

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as a JSON value."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "corpus": self.manifest["fingerprint"],
            "teacher": self.teacher.digest if self.teacher else None,
            "init": self.init.digest if self.init else None,
            "precision": self.precision,
            "tokens_per_batch": self.tokens,
        }


def train(
    recipe: Recipe,
    corpus: str | Path,
    out: str | Path,
    *,
    teacher: str | Path | None = None,
    init: str | Path | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    resume: bool = False,
) -> Result:
    """Make the student of `recipe` from a corpus folder into the folder `out`.

    `teacher` and `init` are folders or hub names, by default the recipe's own. `precision` is "auto", "bf16" or
    "fp32"; `tokens_per_batch` bounds a micro-batch and so the memory: the result changes by rounding only where nothing
    drops out, for with dropout other cuts draw other masks.
    A finished run of the same inputs is left alone. Raises UserError for whatever the user can mend.
    """
    out = Path(out)
    processes = PartialState(cpu=not torch.cuda.is_available())
    inputs = collect(recipe, corpus, teacher, init, precision, tokens_per_batch)
    with run_folder.held(processes, out), loading.quiet():
        begun = run_folder.on_main(processes, lambda: run_folder.begin(out, inputs.identity(), resume=resume))
        if begun.result is not None:
            return Result(**{**begun.result, "state": "already finished", "out": str(out)})
        return _run(inputs, out, begun, processes)


def collect(
    recipe: Recipe,
    corpus: str | Path,
    teacher: str | Path | None,
    init: str | Path | None,
    precision: str,
    tokens: int | None,
) -> Inputs:
    """Find and check all that a run is made of. Raises UserError for what is missing or does not fit together."""
    corpus = Path(corpus)
    manifest = corpora.manifest(corpus)
    cut = manifest["settings"]["max_length"]
    if cut > recipe.max_length:
        raise UserError(
            f"The corpus has rows of up to {cut} tokens, the recipe takes {recipe.max_length}: "
            f"build the corpus with --max-length {recipe.max_length}, or train with --set max_length={cut}."
        )
    distils = recipe.kind == "distil"
    if init and (distils or recipe.start == "random"):
        raise UserError(f"Recipe {recipe.name} has no use for --init: its student starts from {recipe.start}.")
    if teacher and not distils:
        raise UserError(f"Recipe {recipe.name} has no use for --teacher: it continues a checkpoint, named by --init.")
    sources = []
    for name, wanted, option in (
        (teacher or recipe.teacher, distils, "--teacher"),
        (init or recipe.init, recipe.start == "checkpoint", "--init"),
    ):
        if wanted and not name:
            raise UserError(f"Recipe {recipe.name} names no model to start from: name one with {option}.")
        sources.append(loading.find(name) if wanted and name else None)
    tokenizer = corpora.tokenizer(corpus)
    for source in filter(None, sources):
        loading.check_length(source.config, source.name, manifest)
        loading.check_tokenizer(source, tokenizer, manifest)
    # The models as they were taken, and no path of this machine, in all that is published.
    names = [source.public_name() if source else None for source in sources]
    recipe = recipe.model_copy(update={"teacher": names[0], "init": names[1]})
    return Inputs(
        recipe,
        Path(corpus),
        manifest,
        sources[0],
        sources[1],
        hardware.precision(precision),
        tokens or hardware.tokens(),
    )


def _run(inputs: Inputs, out: Path, begun: run_folder.Begun, processes: PartialState) -> Result:
    recipe = inputs.recipe
    splits, tokenizer = corpora.open(inputs.corpus), corpora.tokenizer(inputs.corpus)
    masking = Masking.of(tokenizer, recipe.mlm_probability, recipe.seed)
    rank, world = processes.process_index, processes.num_processes
    if world > recipe.batch_size:
        raise UserError(f"{world} processes cannot share a step of {recipe.batch_size} citations: start fewer.")
    steps = batches.Steps(
        batches.Masked(splits["train"], masking), recipe.batch_size, inputs.tokens, recipe.steps, rank, world
    )
    measures = "holdout" in splits
    held = batches.heldout(splits["holdout"], masking, inputs.tokens, rank, world) if measures else []
    teacher, student = models(inputs)
    arguments = arguments_for(recipe, inputs.precision, out, measures=measures, starts=begun.checkpoint is None)
    teacher_score = None
    if measures and teacher is not None and _reads_logits(recipe):
        # Before the engine takes the teacher to half precision: both are measured the same way.
        teacher_score = _score(teacher, held, processes, arguments.bf16)
    reporters = reporting.reporters(out, recipe.name)
    try:
        outcome = engine.distil(student, teacher, steps, held, recipe, arguments, reporters, begun.checkpoint)
    finally:
        for reporter in reporters:
            reporter.close()
    parameters = encoder_parameters(student)
    if outcome.stopped and outcome.step < recipe.steps:
        return Result("stopped", str(out), outcome.step, parameters, notes=begun.notes)
    if not processes.is_main_process:
        return Result("finished", str(out), outcome.step, parameters)
    kept = run_folder.best(out / "checkpoints")
    result = Result(
        "finished",
        str(out),
        outcome.step,
        parameters,
        kept["step"] if kept else outcome.step,
        kept["heldout_loss"] if kept else None,
        kept["heldout_accuracy"] if kept else None,
        teacher_score.loss if teacher_score else None,
        teacher_score.accuracy if teacher_score else None,
        begun.notes,
    )
    _finish(inputs, out, student, tokenizer, result)
    return result


def models(inputs: Inputs) -> tuple[PreTrainedModel | None, PreTrainedModel]:
    """The teacher, where there is one, and the student at its start."""
    recipe = inputs.recipe
    source = inputs.teacher or inputs.init
    if source is None:
        tokenizer = inputs.manifest["tokenizer"]
        return None, random_student(recipe, tokenizer["vocab_size"], tokenizer["pad_id"])
    model, has_head = loading.load(source, recipe.seed)
    if inputs.teacher is None:
        return None, build_student(recipe, model)
    if _reads_logits(recipe) and not has_head:
        loading.refuse_headless(source)
    return model, build_student(recipe, model)


def _reads_logits(recipe: Recipe) -> bool:
    return any(TERMS[term].teacher_logits for term in recipe.loss)


def _score(model: PreTrainedModel, held: list[Any], processes: PartialState, bf16: bool) -> masked_lm.Heldout:
    sums = masked_lm.totals(model.to(processes.device), held, bf16=bf16)
    if processes.num_processes > 1:
        sums = sums.to(processes.device)
        torch.distributed.all_reduce(sums)
    return masked_lm.heldout(sums.cpu())


def _finish(inputs: Inputs, out: Path, student: PreTrainedModel, tokenizer: Any, result: Result) -> None:
    """Write the model that was kept, tokenizer, recipe and card into `out`; `run.json` last, which ends the run."""
    best = out / "checkpoints" / run_folder.BEST
    with run_folder.refusing_full_disk(out):
        if best.exists():
            student, _ = loading.load(loading.find(best), inputs.recipe.seed)
        student.save_pretrained(out)
        tokenizer.save_pretrained(out)
        recipe = yaml.safe_dump(inputs.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(out / "recipe.yaml", recipe)
        card = pretrained_card(
            out.name,
            inputs.recipe,
            inputs.teacher or inputs.init,
            inputs.manifest,
            inputs.identity(),
            asdict(result),
            student,
            reporting.read(out / reporting.METRICS),
        )
        write_text(out / "README.md", card)
        run_folder.finish(out, inputs.identity(), {**asdict(result), "out": out.name})


def arguments_for(recipe: Recipe, precision: str, out: Path, *, measures: bool, starts: bool) -> TrainingArguments:
    """What Trainer is told of a recipe; `measures` where something is held out, `starts` for no resumed run."""
    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch_fused",
        seed=recipe.seed,
        bf16=precision == "bf16",
        use_cpu=not cuda,
        eval_strategy="steps" if measures else "no",
        eval_steps=recipe.eval_every,
        eval_on_start=measures and starts,
        save_strategy="steps",
        save_steps=recipe.save_every,
        logging_steps=max(1, min(50, recipe.steps // 20)),
        logging_first_step=True,
        # The first loss that is no number ends the run; it must not be averaged away.
        logging_nan_inf_filter=False,
        # A step is a pure function of its number, so nothing has to be skipped.
        ignore_data_skip=True,
        remove_unused_columns=False,
        dataloader_num_workers=4 if cuda else 0,
        # A loss that reads no logits leaves the head, and maybe the last layers, without a gradient.
        ddp_find_unused_parameters=not any(TERMS[term].logits for term in recipe.loss),
        report_to=[],
        disable_tqdm=True,
    )
    # One process takes one device; the Trainer would cut packed rows over all that it sees.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def push(out: str | Path, name: str) -> str:
    """Upload the finished model in `out`, without its checkpoints, to the hub as `name`; gives its address."""
    return hub.push(Path(out), name, ignore=STAYS)


def speaks() -> bool:
    """Whether this process is the one of several that prints results."""
    return bool(PartialState().is_main_process)
