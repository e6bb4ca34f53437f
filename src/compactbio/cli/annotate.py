"""`compactbio annotate`: files of texts in, one file with entities out; `compactbio serve`: the same over HTTP."""

import errno
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.annotate.files import AnnotatedFile
    from compactbio.annotate.shards import Failure
    from compactbio.documents import Document

ANNOTATE_EXAMPLE = """\
Examples:

compactbio annotate pubmed/*.xml.gz --model tagger-int8 --out entities.jsonl

compactbio annotate notes/ --model Disease=ncbi --model Chemical=chem --out entities.parquet

echo 'Aspirin for lung cancer.' | compactbio annotate - --model tagger --out -
"""
SERVE_EXAMPLE = "Example: compactbio serve tagger-int8, then open http://127.0.0.1:8000"
# The errors of an address that this machine does not have, as ::1 where there is no IPv6.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_REASONS = {
    errno.EADDRINUSE: "it is in use; stop what listens there, or choose another port (--port)",
    errno.EACCES: "this user may not use it; choose a port above 1023 (--port)",
    **dict.fromkeys(_ABSENT, "this machine does not have that address; choose one of its own (--host)"),
}


def annotate(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Files, folders or patterns; - is standard input.")
    ],
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="MODEL",
            help="A fine-tuned NER model (folder or hub name), or TYPE=MODEL to name its mentions; repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write; - is standard output.")],
    format: Annotated[
        Literal["jsonl", "parquet", "bioc", "pubtator", "brat"] | None,
        typer.Option(help="By default as the suffix of --out says."),
    ] = None,
    input_format: options.TextsFormat = None,
    text_field: Annotated[
        str | None, typer.Option(help="The field of JSON lines or Parquet that holds the text.")
    ] = None,
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Leave out entities with a lower score.")] = 0.0,
    min_precision: options.MinPrecision = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the annotations that the input has.")] = False,
    runtime: options.RuntimeChoice = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per GPU, or one per core.")
    ] = None,
    device: options.DeviceChoice = "auto",
    on_cluster: Annotated[
        bool, typer.Option("--cluster", help="Run on the Ray cluster of $RAY_ADDRESS, or a local one.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Find entities in PubMed XML, PubTator, BioC, BRAT, JSON lines, Parquet or plain text (a document per line).

    Standard input and .txt files are plain text unless they hold XML, JSON or PubTator, or --input-format names a
    format. Of PubMed records the newest of each PMID is annotated, and none that the NLM has withdrawn.

    A run that was stopped resumes when the same command is run again. Documents that cannot be read are set aside with
    their reason in OUT.failed.jsonl, or on standard error. The exit status is 0 where any document was annotated, 2
    where none was.
    """
    from compactbio.annotate.files import annotate_files, stream
    from compactbio.errors import UserError

    if str(out) == "-" and format not in (None, "jsonl"):
        raise UserError(f"Standard output takes jsonl only, not {format}: name a file.", setting="out")
    if str(out) == "-" and (on_cluster or as_json):
        raise UserError(
            f"Standard output takes the documents of this machine: leave {'cluster' if on_cluster else 'json'} out, or "
            "name a file.",
            setting="out",
        )
    if (str(out) == "-" and sys.stdout is None) or ("-" in inputs and sys.stdin is None):
        raise UserError("Standard input or output (-) is closed: name files.")
    given: dict[str, Any] = {
        "models": models,
        "input_format": input_format,
        "text_field": text_field,
        "min_score": min_score,
        "min_precision": min_precision,
        "keep": keep,
        "runtime": runtime,
        "device": device,
    }
    kept = "what was printed is all that is kept." if str(out) == "-" else options.RUN_AGAIN
    with options.reporting(kept) as reporter, _on_disk(inputs) as files:
        if str(out) == "-":
            _print_lines(stream(files, **given, workers=workers or 1, listener=reporter))
            return
        found = annotate_files(
            files, out, **given, format=format, workers=workers, on_cluster=on_cluster, listener=reporter
        )
    options.show(found, as_json, _text)


@contextmanager
def _on_disk(inputs: list[str]) -> Iterator[list[str]]:
    """The inputs, with standard input as a file."""
    if "-" not in inputs:
        yield inputs
        return
    with TemporaryDirectory() as folder:
        place = Path(folder) / "stdin"
        with place.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [str(place) if one == "-" else one for one in inputs]


def _print_lines(results: "Iterator[Document | Failure]") -> None:
    from compactbio.annotate.shards import Failure, none_annotated
    from compactbio.formats.json_lines import serialise

    written = failed = 0
    first = None
    for result in results:
        if isinstance(result, Failure):
            failed, first = failed + 1, first or result
            typer.echo(f"set aside: {result}", err=True)
        else:
            written += 1
            # As bytes: JSON lines are UTF-8, whatever the terminal is set to.
            typer.echo(serialise(result).encode(), nl=False)
    if not written:
        raise none_annotated(first)
    if failed:
        typer.echo(f"{failed:,} of {written + failed:,} documents were set aside.", err=True)


def _text(found: "AnnotatedFile") -> str:
    entities = ", ".join(f"{kind or 'no type'} {count:,}" for kind, count in found.entities.items()) or "none"
    lines = [
        f"wrote        {found.out} ({found.format}, {found.state})",
        f"documents    {found.documents:,}",
        f"entities     {entities}",
        f"models       {', '.join(f'{model} on {runtime}' for model, runtime in found.runtimes.items())}",
    ]
    if found.updated or found.deleted:
        lines.append(f"passed over  {found.updated:,} older records of a PMID, {found.deleted:,} withdrawn ones")
    if found.failed:
        lines.append(f"set aside    {found.failed:,}, see {found.out}.failed.jsonl")
    return "\n".join(lines)


def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Fine-tuned NER models, or TYPE=MODEL.")],
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free one.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="COMPACTBIO_TOKEN", help="Ask for this bearer token.")] = None,
    runtime: options.RuntimeChoice = "auto",
    device: options.DeviceChoice = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model; by default one per core.")] = None,
    min_precision: options.MinPrecision = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a request at most.")] = 1_000_000,
    max_documents: Annotated[int, typer.Option(min=1, help="Documents of a request at most.")] = 1000,
    max_waiting: Annotated[int, typer.Option(min=1, help="Documents that may wait at most, of all requests.")] = 4000,
    max_seconds: Annotated[float, typer.Option(min=0.001, help="Seconds until a request is answered or refused.")] = 60,
) -> None:
    """Serve models over HTTP: POST /v1/annotate, GET /v1/models, /health, /metrics, /openapi.json, and a page at /.

    Requests that arrive together share a batch. Ctrl-C or SIGTERM stops it after the requests that were accepted. No
    text is logged.
    """
    from compactbio.annotate import Annotator
    from compactbio.errors import UserError

    try:
        from compactbio.annotate.server import Limits, create, http_server
    except ImportError:
        raise UserError("The server is not installed: pip install 'compactbio[serve]'.") from None
    # The parser takes an empty variable for none, which would leave the server open.
    if not (os.environ.get("COMPACTBIO_TOKEN", "none") if token is None else token).strip():
        raise UserError("The token is empty: give one, or leave it out.", setting="token")
    # Before the models are loaded, which takes long: an address that cannot be used is reported at once.
    sockets = _listening(host, port)
    typer.echo("Loading ...", err=True)
    annotator = Annotator.from_pretrained(
        *models, runtime=runtime, device=device, threads=threads, min_precision=min_precision
    )
    app = create(annotator, limits=Limits(max_bytes, max_documents, max_waiting, max_seconds), token=token)
    serving = ", ".join(f"{one.model.name} on {one.model.runtime.name}" for one in annotator.taggers)
    where = f"[{host}]" if ":" in host else host
    typer.echo(f"Serving {serving}, running on http://{where}:{sockets[0].getsockname()[1]}. Ctrl-C stops.", err=True)
    with suppress(KeyboardInterrupt):
        http_server(app).run(sockets=sockets)


def _listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on each address of `host` that this machine has. Raises UserError where there is none."""
    from compactbio.errors import UserError

    found: list[socket.socket] = []
    failure: Exception | None = None
    try:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            # All addresses on the port that the first one got, where any free one is wanted.
            place = (address[0], found[0].getsockname()[1] if found else port, *address[2:])
            try:
                found.append(socket.create_server(place, family=family))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                failure = error
        if found:
            return found
    except (OSError, UnicodeError) as error:
        failure = error
    for one in found:
        one.close()
    reason = _REASONS.get(getattr(failure, "errno", None) or 0, "there is no such host; choose another (--host)")
    raise UserError(f"Cannot listen on port {port} of {host!r}: {reason}.")
