"""The functions that `import compactbio` offers: paths and names in, the core called, results out.

Each function takes `str` or `Path`, and raises `UserError` (a `ValueError`) with one sentence on whatever the caller
can fix. Models and tokenizers are local folders or hub names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from compactbio import recipes
from compactbio.annotate import Annotator, Marking, QuestionAnnotator, RelationAnnotator
from compactbio.annotate.files import annotate_files
from compactbio.annotate.models import LoadOptions
from compactbio.api.evaluation import compare, evaluate, export
from compactbio.corpus.building import build_corpus
from compactbio.errors import UserError
from compactbio.evaluation.scoring import Evaluation
from compactbio.files import output, several
from compactbio.modeling import hardware
from compactbio.processes import end_as_import
from compactbio.recipes import Recipe
from compactbio.training import finetuning, grid_search, pretraining, run_folder

__all__ = ["Run", "annotate_files", "build_corpus", "compare", "distil", "evaluate", "export", "finetune", "pretrain"]


@dataclass(frozen=True)
class Run:
    """A training run: the folder with its model, and its result.

    Attributes:
        folder: The folder of the model: configuration, weights, tokenizer and model card.
        result: The figures of the run: losses of `distil` and `pretrain`, the score on devel of `finetune`.
    """

    folder: Path
    result: pretraining.Result | finetuning.Finetuned

    @property
    def finished(self) -> bool:
        """Whether the run is complete; one that a signal stopped is resumed by the same call with `resume=True`."""
        return self.result.state != "stopped"

    @overload
    def annotator(self, task: Literal["ner"] = "ner", **options: Unpack[LoadOptions]) -> Annotator: ...
    @overload
    def annotator(
        self, task: Literal["relation"], marking: Marking, **options: Unpack[LoadOptions]
    ) -> RelationAnnotator: ...
    @overload
    def annotator(self, task: Literal["qa"], **options: Unpack[LoadOptions]) -> QuestionAnnotator: ...
    def annotator(
        self, task: str = "ner", marking: Marking | None = None, **options: Unpack[LoadOptions]
    ) -> Annotator | RelationAnnotator | QuestionAnnotator:
        """Load the run's model to annotate with.

        Args:
            task: The task of the model: "ner", "relation" or "qa".
            marking: For relations: the pairs that the model was trained on, and their marks.
            options: runtime, device, threads, tokens_per_batch, min_precision, as for `Annotator.from_pretrained`.

        Raises:
            UserError: For a model of another task, and for one that was not fine-tuned.
        """
        if task not in ("ner", "relation", "qa"):
            raise UserError(f"{task!r} is not a task: take ner, relation or qa.", setting="task")
        if task == "qa":
            return QuestionAnnotator.from_pretrained(self.folder, **options)
        if task == "relation":
            if marking is None:
                raise UserError("Relations need a marking: the types of the pairs, and how they were marked.")
            return RelationAnnotator.from_pretrained(self.folder, marking, **options)
        return Annotator.from_pretrained(self.folder, **options)

    def evaluate(self, data: str | Path | Mapping[str, str | Path], **options: Any) -> Evaluation:
        """Score the run's model on a data set; the arguments are those of `evaluate`."""
        return evaluate(data, self.folder, **options)

    def push_to_hub(self, name: str, *, private: bool = True) -> str:
        """Upload the run's model, without checkpoints, to the Hugging Face hub.

        Args:
            name: The model's name there, "owner/name"; made where it does not exist.
            private: Whether a model that is made can be seen by its owner alone.

        Returns:
            The address of the model.

        Raises:
            UserError: Where the hub refuses or cannot be reached, and for an unfinished run.
        """
        if not self.finished:
            raise UserError(f"{self.folder}: the run is unfinished; resume it before it is pushed.")
        return run_folder.push(self.folder, name, private=private)


def distil(
    recipe: str | Path | Recipe,
    corpus: str | Path,
    out: str | Path,
    *,
    teacher: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    resume: bool = False,
    **overrides: Any,
) -> Run:
    """Distil a compact model from a teacher.

    Args:
        recipe: A packaged recipe's name (`compactbio.recipes.names()`), a YAML file, or a Recipe, of kind "distil".
        corpus: A folder made by `build_corpus` with the teacher's tokenizer.
        out: The folder of the run, and then of the model.
        teacher: The teacher; by default the recipe's.
        device: "cpu", "cuda", or "auto" for a CUDA GPU where there is one.
        precision: "bf16", "fp32", or "auto" for bf16 where the hardware has it.
        tokens_per_batch: Tokens of a micro-batch, which bounds the memory; by default 4,096 on a CPU, 32,768 on CUDA.
        resume: Resume the unfinished run that `out` holds.
        overrides: Fields of the recipe to set otherwise (`steps=1000`, `learning_rate=3e-4`).

    Examples:
        >>> from compactbio import distil
        >>> run = distil("distil-biobert", "corpus", "student", teacher="teacher", steps=2, layers=2, batch_size=6)
        >>> run.result.state, run.result.step
        ('finished', 2)
    """
    loaded = recipes.load(recipe, **overrides)
    if loaded.kind != "distil":
        raise UserError(f"Recipe {loaded.name} continues a checkpoint and has no teacher: call pretrain.")
    with hardware.on_device(device):
        result = pretraining.train(
            loaded,
            corpus,
            output(out),
            teacher=teacher,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            resume=resume,
        )
    return Run(Path(out), result)


def pretrain(
    recipe: str | Path | Recipe,
    corpus: str | Path,
    out: str | Path,
    *,
    init: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    resume: bool = False,
    **overrides: Any,
) -> Run:
    """Continue the pre-training of a model by masked language modelling, or begin one.

    Args:
        recipe: A packaged recipe's name (`compactbio.recipes.names()`), a YAML file, or a Recipe, of kind "continue".
        corpus: A folder made by `build_corpus` with the model's tokenizer.
        out: The folder of the run, and then of the model.
        init: The model to start from; by default the recipe's.
        device: As for `distil`.
        precision: As for `distil`.
        tokens_per_batch: As for `distil`.
        resume: Resume the unfinished run that `out` holds.
        overrides: Fields of the recipe to set otherwise (`steps=1000`, `learning_rate=3e-4`).

    Examples:
        >>> from compactbio import pretrain
        >>> run = pretrain("bio-distilbert-uncased", "corpus", "adapted", init="teacher", steps=2, batch_size=6)
        >>> run.result.state
        'finished'
    """
    loaded = recipes.load(recipe, **overrides)
    if loaded.kind != "continue":
        raise UserError(f"Recipe {loaded.name} distils a teacher: call distil.")
    with hardware.on_device(device):
        result = pretraining.train(
            loaded,
            corpus,
            output(out),
            init=init,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            resume=resume,
        )
    return Run(Path(out), result)


def finetune(
    data: str | Path | Mapping[str, str | Path] | Sequence[str | Path],
    model: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    format: str | None = None,
    train_on: str = "train",
    teachers: str | Path | Sequence[str | Path] = (),
    unlabelled: str | Path | Sequence[str | Path] = (),
    layers: int | None = None,
    workers: int | None = None,
    on_cluster: bool = False,
    search: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune a model for named entities, relations or questions.

    Args:
        data: A folder with train, devel and test files, one file (split 70/10/20), or a mapping of "train", "devel"
            and "test" to files; a list of data sets, each labelled for its own types of mentions, makes one tagger of
            all. "TYPE=PATH" names the type of mentions that have none.
        model: The model to start from.
        out: The folder of the run, and then of the model.
        task: "ner", "relation" or "qa"; by default recognised from the data.
        format: One of `formats.READABLE`; by default recognised.
        train_on: "train", which keeps the best epoch by devel, or "train+devel", which keeps the last.
        teachers: Models that are fine-tuned for the task, to learn from beside the labels; the mean of several counts.
            "TYPE=MODEL" teaches one type of mention.
        unlabelled: Files or folders of texts to learn from the teachers alone.
        layers: Start from so many of the model's layers, evenly spread; by default from all.
        workers: Processes that compute what the teachers say; by default this one alone.
        on_cluster: Compute it on the Ray cluster that RAY_ADDRESS names, or on a local one.
        search: Try a grid of learning rates and batch sizes, and keep the best by devel.
        device: As for `distil`.
        precision: As for `distil`.
        tokens_per_batch: As for `distil`.
        resume: Resume the unfinished run that `out` holds.
        settings: Settings of `tasks.settings.Settings` (`epochs=3`, `learning_rate=5e-5`, `seed=1`; with teachers
            `distil_weight=0.7`, `temperature=2.0`).

    Examples:
        >>> from compactbio import finetune
        >>> run = finetune("NER/made", "start", "tagger-run", epochs=4, batch_size=8, learning_rate=5e-3, max_length=32)
        >>> annotator = run.annotator()
        >>> [entity.text for entity in annotator("patients of aspirin and daily lung cancer")]
        ['aspirin', 'lung cancer']
    """
    end_as_import()
    if search and isinstance(data, Mapping):
        raise UserError("A search takes a data folder or file, not a mapping of files.")
    out = output(out)
    action: Any = grid_search.search if search else finetuning.finetune
    with hardware.on_device(device):
        result = action(
            data if isinstance(data, Mapping) else several(data, "data"),
            model,
            out,
            task=task,
            format=format,
            overrides=settings,
            train_on=train_on,
            teachers=several(() if teachers is None else teachers, "teachers"),
            unlabelled=several(() if unlabelled is None else unlabelled, "unlabelled"),
            layers=layers,
            workers=workers,
            on_cluster=on_cluster,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            resume=resume,
        )
    return Run(Path(out), result)
