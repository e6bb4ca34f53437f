"""`compactbio finetune`: from a data set and a model to a model for the task."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.training.finetuning import Finetuned
    from compactbio.training.finetuning_plan import FinetuningPlan

EXAMPLE = """\
Examples:

compactbio finetune NER/NCBI-disease --model models/distil-biobert --out tagger

compactbio evaluate NER/NCBI-disease --model tagger

compactbio finetune Disease=NER/NCBI-disease Gene=NER/BC2GM --model models/distil-biobert --out tagger-of-both
"""


def finetune(
    data: Annotated[
        list[str],
        typer.Argument(
            help="A folder with train, devel and test files, or one file (split 70/10/20). Several make one tagger of "
            "all their types; TYPE=DATA names the type of mentions that have none."
        ),
    ],
    model: Annotated[str, typer.Option(help="Folder or hub name of the model to start from.")],
    out: Annotated[Path | None, typer.Option(help="The folder of the run, and then of the model.")] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="A model that is fine-tuned for the task, to learn from beside the labels; repeatable: the mean of "
            "several counts. TYPE=MODEL teaches one type of mention."
        ),
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            help="Texts to learn from the teachers alone: a file or folder of any format that `annotate` reads; "
            "repeatable."
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Start from so many of the model's layers, evenly spread.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that compute the teachers; by default this one alone.")
    ] = None,
    on_cluster: Annotated[
        bool, typer.Option("--cluster", help="Compute the teachers on the Ray cluster of $RAY_ADDRESS, or a local one.")
    ] = False,
    task: options.TaskChoice = None,
    format: options.DataFormatChoice = None,
    train_on: Annotated[
        Literal["train", "train+devel"],
        typer.Option(help="train keeps the best epoch by devel; train+devel, for final numbers, the last."),
    ] = "train",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="epochs (5; QA 3), learning_rate (5e-5 x 768 / width; NER 3e-4 up to width 384), batch_size (32; "
            "QA 16), max_length (NER: as long as the model reads; relations 256, QA 384), stride (128), warmup (0.1), "
            "weight_decay (0.01) or seed (0); with a teacher distil_weight (0.5) and temperature (2); of unlabelled "
            "texts sample, sample_mentions or sample_by.",
        ),
    ] = None,
    negative: options.Negative = None,
    scheme: options.SchemeChoice = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Try learning rates of half, once and twice the default with batches of 16 and 32; choose by devel.",
        ),
    ] = False,
    forecast: Annotated[
        bool, typer.Option("--plan", help="Forecast what the run takes, from some real steps; nothing is written.")
    ] = False,
    resume: options.Resume = False,
    device: options.DeviceChoice = "auto",
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a model for NER, relation extraction or question answering.

    With a teacher, a fine-tuned model of any kind, the model learns from its probabilities too, and from unlabelled
    texts. The task is recognised from the data; the test split is read only to leave its documents out
    of unlabelled texts and of other data sets. The run can be stopped at any moment and resumed with --resume; Ctrl-C
    saves a checkpoint first.
    """
    from compactbio.errors import UserError
    from compactbio.modeling.hardware import on_device
    from compactbio.training import finetuning as tuning
    from compactbio.training import grid_search

    given: dict[str, Any] = {
        "task": task,
        "format": format,
        "overrides": options.overrides(setting, negative=negative or None, scheme=scheme),
        "train_on": train_on,
        "teachers": teacher or (),
        "unlabelled": unlabelled or (),
        "layers": layers,
        "workers": workers,
        "on_cluster": on_cluster,
        "precision": precision,
        "tokens_per_batch": tokens_per_batch,
    }
    if forecast:
        if search or resume:
            raise UserError("--plan forecasts one new run: leave out --search and --resume.")
        from compactbio.training.finetuning_plan import plan

        with options.reporting("nothing was measured.") as reporter, on_device(device):
            found = plan(data, model, listener=reporter, **given)
        options.show(found, as_json, _plan_text)
        return
    if out is None:
        raise UserError("Name the folder of the run: --out.")
    action = grid_search.search if search else tuning.finetune
    try:
        with on_device(device):
            result = action(data, model, out, resume=resume, **given)
    except KeyboardInterrupt:
        raise options.stopped("Stopped; what was saved is kept.", out) from None
    if not options.speaks():
        return
    if result.state == "stopped":
        raise options.stopped(f"Stopped at step {result.step}, checkpoint saved.", out)
    options.show(result, as_json, lambda result: _text(result, data))


def _plan_text(found: "FinetuningPlan") -> str:
    texts = f", {found.unlabelled_rows:,} from {found.unlabelled_documents:,} unlabelled documents"
    parts = {"teachers": found.teacher_seconds, "training": found.training_seconds, "devel": found.devel_seconds}
    times = ", ".join(f"{name} {options.duration(seconds)}" for name, seconds in parts.items() if seconds)
    lines = [
        f"student      {found.parameters / 1e6:.1f} M parameters, {found.task}",
        *([f"teachers     {', '.join(found.teachers)}"] if found.teachers else []),
        f"rows         {found.labelled_rows:,} labelled{texts if found.unlabelled_documents else ''}",
        f"steps        {found.steps:,}: about {found.tokens / 1e6:.2f} M tokens",
        f"measured     {found.tokens_per_second:,.0f} tokens/s, {found.precision}, "
        f"{options.measured_on(found.machine)}",
        f"memory       {found.memory_bytes / 1e9:.1f} GB",
        f"time         {options.duration(found.seconds)}: {times}",
    ]
    return "\n".join(lines)


def _text(result: "Finetuned", data: list[str]) -> str:
    lines = [
        f"model   {result.out}",
        f"state   {result.state}",
        f"steps   {result.step:,}, kept epoch {result.epoch:g}",
    ]
    if result.devel is not None and result.interval is not None:
        low, high = result.interval
        lines.append(
            f"devel   {result.metric} {100 * result.devel:.2f} (95 % interval {100 * low:.2f} to {100 * high:.2f}; "
            f"{result.protocol} protocol){', the mean of the data sets' if result.corpora else ''}"
        )
    for part in result.corpora:
        low, high = part["interval"]
        lines.append(
            f"        {part['name']} ({', '.join(part['types'])}) {100 * part['score']:.2f} "
            f"({100 * low:.2f} to {100 * high:.2f})"
        )
    lines += [f"note    {note}" for note in result.notes]
    excluded = len(data) > 1 or result.unlabelled
    read = "read only to leave its documents out of what was trained on" if excluded else "not read"
    lines.append(f"test    {read}; where there is one, score it with:")
    lines += [f"        compactbio evaluate {shlex.quote(str(one))} --model {shlex.quote(result.out)}" for one in data]
    return "\n".join(lines)
