"""Making a compact model: the shell around `distil`, from a recipe and a corpus to a folder that others can load.

In the folder: the model (`config.json`, `model.safetensors`, tokenizer, `README.md`), `recipe.yaml` as run, `run.json`
(what the run is made of, and its result), `metrics.jsonl`, `checkpoints/`, `tensorboard/`.
"""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compactbio import corpus as corpora
from compactbio.errors import UserError
from compactbio.files import write_text
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import encoder_parameters, family_of
from compactbio.modeling.students import build_student, random_student
from compactbio.objectives import reads
from compactbio.recipes import Recipe
from compactbio.training import batches, reporting, run_folder
from compactbio.training.cards import pretrained_card
from compactbio.training.engine import arguments_for, distil, score_heldout


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        state: "finished", "already finished" or "stopped".
        out: the folder of the run.
        step: the last step.
        parameters: those of the student's encoder.
        best_step: the step whose student was kept.
        heldout_loss: of that student, in nats per masked token; None where no rows are held out.
        heldout_accuracy: its share of masked tokens that are right, in [0, 1].
        teacher_heldout_loss: the teacher's, None where there is none or it has no MLM head.
        teacher_heldout_accuracy: likewise.
        notes: sentences on a head that was drawn, and on checkpoints that were not complete and so were passed over.
        recipe, seed, precision: of the run.
        corpus: its fingerprint.
        heldout_rows: that the losses are of.
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
    recipe: str = ""
    seed: int | None = None
    precision: str = ""
    corpus: str = ""
    heldout_rows: int | None = None


@dataclass(frozen=True)
class Inputs:
    """All that a run is made of, found and checked; no weights are loaded yet."""

    recipe: Recipe
    corpus: Path
    manifest: dict[str, Any]
    teacher: loading.Source | None
    init: loading.Source | None
    precision: str
    tokens: int

    @property
    def start(self) -> loading.Source | None:
        """The model that the student is made from, None for random weights."""
        return self.teacher or self.init

    def record(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as a JSON value."""
        return {
            # Not where it changes nothing, so that runs from before it was there can be resumed.
            "recipe": self.recipe.model_dump(mode="json", exclude=set() if self.recipe.head_steps else {"head_steps"}),
            "corpus": self.manifest["fingerprint"],
            "teacher": self.teacher.digest if self.teacher else None,
            "init": self.init.digest if self.init else None,
            "precision": self.precision,
            "tokens_per_batch": self.tokens,
        }


def train(recipe: Recipe, corpus: str | Path, out: str | Path, *, resume: bool = False, **options: Any) -> Result:
    """Make the student of a recipe. A finished run of the same inputs is left as it is.

    Args:
        recipe, corpus, **options: as for `collect`.
        out: the folder of the run, and then of the model.
        resume: whether an unfinished run in `out` is resumed.

    Raises UserError for whatever the user can fix.
    """
    inputs = collect(recipe, corpus, **options)
    with loading.quiet(), run_folder.open_run(Path(out), inputs.record(), resume=resume) as begun:
        return Result(**begun.result) if begun.result is not None else _run(inputs, Path(out), begun)


def collect(
    recipe: Recipe,
    corpus: str | Path,
    *,
    teacher: str | Path | None = None,
    init: str | Path | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Inputs:
    """Find and check all that a run is made of; the arguments are those of `compactbio.distil` and `pretrain`.

    Raises UserError for what is missing or does not fit together.
    """
    tokens_per_batch = hardware.check_work(precision, tokens_per_batch)
    manifest = corpora.manifest(corpus)
    longest = manifest["settings"]["max_length"]
    if longest > recipe.max_length:
        raise UserError(
            f"The corpus has rows of up to {longest} tokens, the recipe takes {recipe.max_length}: build the corpus "
            f"with max_length {recipe.max_length}, or train with max_length={longest}."
        )
    distils = recipe.kind == "distil"
    if init is not None and recipe.start != "checkpoint":
        raise UserError(f"Recipe {recipe.name} starts from {recipe.start}: name no init.", setting="init")
    if teacher is not None and not distils:
        raise UserError(f"Recipe {recipe.name} continues a checkpoint: name no teacher.", setting="teacher")
    taught_by = _find(recipe, recipe.teacher if teacher is None else teacher, "teacher") if distils else None
    starts_from = _find(recipe, recipe.init if init is None else init, "init") if recipe.start == "checkpoint" else None
    sources = [source for source in (taught_by, starts_from) if source]
    tokenizer = corpora.tokenizer(corpus)
    for source in sources:
        loading.check_length(source.config, source.name, manifest)
        loading.check_tokenizer(source, tokenizer, manifest)
    # The models as they were taken, and no path of this machine, in all that is published.
    named = {"teacher": taught_by, "init": starts_from}
    published = {key: source.public_name() if source else None for key, source in named.items()}
    chosen = hardware.precision(precision, *(source.config for source in sources))
    tokens = tokens_per_batch or hardware.tokens()
    return Inputs(recipe.model_copy(update=published), Path(corpus), manifest, taught_by, starts_from, chosen, tokens)


def _find(recipe: Recipe, name: str | Path | None, setting: str) -> loading.Source:
    if name is None:
        raise UserError(f"Recipe {recipe.name} names no {setting}: name a model.", setting=setting)
    source = loading.find(name)
    family_of(source.config, source.name)
    return source


def models(inputs: Inputs) -> tuple[PreTrainedModel | None, PreTrainedModel, tuple[str, ...]]:
    """The teacher, where there is one, the student at its start, and sentences on what was drawn for it."""
    recipe = inputs.recipe
    if inputs.start is None:
        tokenizer = inputs.manifest["tokenizer"]
        return None, random_student(recipe, tokenizer["vocab_size"], tokenizer["pad_id"]), ()
    model, has_head = loading.load(inputs.start, recipe.seed)
    student = build_student(recipe, model)
    notes = () if has_head or recipe.start == "random" else (_drawn(inputs.start.public_name(), recipe),)
    if inputs.teacher is None:
        return None, student, notes
    if reads(recipe, "teacher_logits") and not has_head:
        raise UserError(
            f"{inputs.teacher.name} has no MLM head, which the recipe's loss reads from the teacher: first train a "
            "recipe of kind continue, such as bio-distilbert-cased, with this model as its init; then take the "
            "result as the teacher.",
            setting="teacher",
        )
    return model, student, notes


def _drawn(name: str, recipe: Recipe) -> str:
    sentence = f"{name} has no MLM head, so one was drawn"
    if recipe.kind == "distil":
        return f"{sentence}."
    if not recipe.head_steps:
        return f"{sentence}; head_steps trains it alone before the encoder changes."
    return f"{sentence}; it is trained alone for the first {min(recipe.head_steps, recipe.steps):,} steps."


def _run(inputs: Inputs, out: Path, begun: run_folder.Begun) -> Result:
    recipe, processes = inputs.recipe, run_folder.processes()
    rank, world = processes.process_index, processes.num_processes
    if world > recipe.batch_size:
        raise UserError(f"{world} processes cannot share a step of {recipe.batch_size} citations: start fewer.")
    splits, tokenizer = corpora.open(inputs.corpus), corpora.tokenizer(inputs.corpus)
    masking = batches.Masking.of(tokenizer, recipe.mlm_probability, recipe.seed)
    steps = batches.Steps(
        batches.Masked(splits["train"], masking), recipe.batch_size, inputs.tokens, recipe.steps, rank, world
    )
    validates = "holdout" in splits
    held = batches.heldout_batches(splits["holdout"], masking, inputs.tokens, rank, world) if validates else []
    teacher, student, drawn = models(inputs)
    if processes.is_main_process:
        sys.stderr.writelines(f"{note}\n" for note in drawn)
    start, folder = begun.checkpoint, out / run_folder.CHECKPOINTS
    arguments = arguments_for(recipe, inputs.precision, folder, validates=validates, starts=start is None)
    teacher_score = None
    if validates and teacher is not None and reads(recipe, "teacher_logits"):
        # Before the teacher is taken to half precision for training: both models are scored in the same way.
        teacher_score = score_heldout(teacher.to(processes.device), held, bf16=arguments.bf16)
    with reporting.reporters(out, recipe.name) as callbacks:
        outcome = distil(
            student, teacher, steps, recipe, heldout=held, arguments=arguments, callbacks=callbacks, checkpoint=start
        )
    result = Result(
        "finished", str(out), outcome.step, encoder_parameters(student), notes=(*drawn, *begun.notes),
        recipe=recipe.name, seed=recipe.seed, precision=inputs.precision, corpus=inputs.manifest["fingerprint"],
        heldout_rows=inputs.manifest["rows"]["holdout"],
    )  # fmt: skip
    if outcome.stopped and outcome.step < recipe.steps:
        return replace(result, state="stopped")
    if not processes.is_main_process:
        return result
    kept = run_folder.best(folder) or {}
    result = replace(
        result,
        best_step=kept.get("step", outcome.step),
        heldout_loss=kept.get("heldout_loss"),
        heldout_accuracy=kept.get("heldout_accuracy"),
        teacher_heldout_loss=teacher_score.loss if teacher_score else None,
        teacher_heldout_accuracy=teacher_score.accuracy if teacher_score else None,
    )
    _finish(inputs, out, student, tokenizer, result)
    return result


def _finish(
    inputs: Inputs, out: Path, student: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, result: Result
) -> None:
    """Write the model that was kept, tokenizer, recipe and card into `out`; `run.json` last, which ends the run."""
    best = out / run_folder.CHECKPOINTS / run_folder.BEST
    with run_folder.refusing_full_disk(out):
        if best.exists():
            student, _ = loading.load(loading.find(best), inputs.recipe.seed)
        student.save_pretrained(out, save_original_format=False)
        tokenizer.save_pretrained(out)
        recipe = yaml.safe_dump(inputs.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(out / "recipe.yaml", recipe)
        run, found, metrics = inputs.record(), asdict(result), reporting.read(out / reporting.METRICS)
        mask = str(tokenizer.mask_token)
        card = pretrained_card(
            out.resolve().name, inputs.recipe, inputs.start, inputs.manifest, run, found, student, mask, metrics
        )
        write_text(out / "README.md", card)
        run_folder.finish(out, run, found)
