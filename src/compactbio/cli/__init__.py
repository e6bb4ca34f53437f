"""The command line: all commands in one application, and errors turned into sentences and exit statuses."""

import inspect
import os
import re
import sys
import traceback
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from compactbio import __version__
from compactbio.cli import annotate, corpus, demo, deploy, evaluate, finetune, options, recipes, train
from compactbio.errors import UserError, reason, sentence_for

app = typer.Typer(
    help="Make, measure and use compact biomedical transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_TRY, _MAKE, _MEASURE, _USE = "Try it", "Make a model", "Fine-tune and measure", "Use it"
app.add_typer(corpus.app, name="corpus", rich_help_panel=_MAKE)
app.add_typer(recipes.app, name="recipes", rich_help_panel=_MAKE)
for _panel, _command, _example in (
    (_TRY, demo.demo, demo.EXAMPLE),
    (_MAKE, train.plan, train.PLAN_EXAMPLE),
    (_MAKE, train.train, train.TRAIN_EXAMPLE),
    (_MEASURE, finetune.finetune, finetune.EXAMPLE),
    (_MEASURE, evaluate.evaluate, evaluate.EVALUATE_EXAMPLE),
    (_MEASURE, evaluate.compare, evaluate.COMPARE_EXAMPLE),
    (_MEASURE, deploy.profile, deploy.PROFILE_EXAMPLE),
    (_USE, deploy.export, deploy.EXPORT_EXAMPLE),
    (_USE, annotate.annotate, annotate.ANNOTATE_EXAMPLE),
    (_USE, annotate.serve, annotate.SERVE_EXAMPLE),
):
    # A paragraph on one line: the help would keep the line ends of the source.
    _help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(_command) or "")
    app.command(epilog=_example, help=_help, rich_help_panel=_panel)(_command)


_LOST = (
    "Another process of this run has ended or cannot be reached ({}), so this one ends too; what was saved is kept: "
    "start all of them again, with --resume where there is a checkpoint."
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"compactbio {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    command = context.invoked_subcommand
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and command not in ("train", "finetune"):
        raise UserError(f"compactbio {command} runs in one process: start it without torchrun.")


def _lost_process(error: Exception) -> bool:
    """Whether an error is that of a process whose fellow of torchrun has ended: PyTorch's own, or gloo's."""
    return isinstance(error, RuntimeError) and (type(error).__name__.startswith("Dist") or "gloo" in str(error))


def _named_option(error: UserError, arguments: list[str]) -> str:
    """The option of the running command that an error is about, "" where it has none of that name."""
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument, command)
    option = f"--{(error.setting or '').replace('_', '-')}"
    known = any(option in parameter.opts for parameter in command.params)
    return f" (option {option})" if known else ""


def main() -> None:
    """Run the command line; the exit status is 0 done, 2 the user's mistake, 1 an error of ours, 130 interrupted."""
    # Word pieces are made in worker processes; the tokenizers' own threads would warn at each fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if isinstance(sys.stdout, TextIOWrapper):
        # A name or text that the terminal's encoding lacks must not end the command, as it does not on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        # Of several processes any one may be alone with it, as where a file is missing on one machine.
        place = "" if options.speaks() else f"Process {os.environ['RANK']}: "
        sys.stderr.write(f"{place}{error}{_named_option(error, sys.argv[1:])}\n")
        status = 2
    except SystemExit as leaving:
        # typer ends with status 1 where the output's reader has closed the pipe.
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        # Nothing more can be written there, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        lost = _LOST.format(reason(error)) if _lost_process(error) else None
        sentence = sentence_for(error) if isinstance(error, OSError) else lost
        ours = "This is an error in compactbio, not yours; please report it with the lines above."
        sys.stderr.write(f"{sentence or traceback.format_exc() + ours}\n")
        status = 2 if sentence else 1
    sys.exit(status)
