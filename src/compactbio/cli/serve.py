"""`compactbio serve`: annotations over HTTP, and a page to try them on."""

from typing import Annotated

import typer

from compactbio.cli import options

EXAMPLE = "Example: compactbio serve tagger-int8, then open http://127.0.0.1:8000"


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Fine-tuned NER models, or TYPE=MODEL.", show_default=False)
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="COMPACTBIO_TOKEN", help="Ask for this bearer token.", show_default=False),
    ] = None,
    runtime: options.RuntimeChoice = options.Runtime.auto,
    device: options.DeviceChoice = options.Device.auto,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the model; by default one a core.", show_default=False)
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 1_000_000,
    max_documents: Annotated[int, typer.Option(min=1, help="Documents of a request.")] = 1000,
    max_waiting: Annotated[int, typer.Option(min=1, help="Documents that may wait in all.")] = 4000,
    max_seconds: Annotated[float, typer.Option(min=0.001, help="Seconds until a request is answered or refused.")] = 60,
) -> None:
    """Serve models over HTTP: POST /v1/annotate, GET /v1/models, /health, /metrics, /openapi.json, and a page at /.

    Requests that arrive together share a batch. Ctrl-C or SIGTERM stops it after the requests that were taken. No text
    is logged.
    """
    options.use(device)
    from compactbio.annotate import Annotator
    from compactbio.errors import UserError

    try:
        import uvicorn

        from compactbio.annotate.server import Limits, create
    except ImportError:
        raise UserError("The server is not installed: pip install 'compactbio[serve]'.") from None
    typer.echo("Loading ...", err=True)
    annotator = Annotator.from_pretrained(*models, runtime=runtime.value, threads=threads)
    app = create(annotator, limits=Limits(max_bytes, max_documents, max_waiting, max_seconds), token=token)
    told = ", ".join(f"{one.model.name} on {one.model.runtime.name}" for one in annotator.taggers)
    typer.echo(f"Serving {told}. Ctrl-C stops.", err=True)
    uvicorn.run(app, host=host, port=port, log_level="info", access_log=False)
