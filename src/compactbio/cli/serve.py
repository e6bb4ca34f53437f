"""`compactbio serve`: annotations over HTTP, and a page to try them on."""

import errno
import socket
from contextlib import suppress
from typing import Annotated

import typer

from compactbio.cli import options

# The errors of an address that this machine does not have, as ::1 where there is no IPv6.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_REASONS = {
    errno.EADDRINUSE: "it is in use; stop what listens there, or choose another port (--port)",
    errno.EACCES: "this user may not use it; choose a port above 1023 (--port)",
    **dict.fromkeys(_ABSENT, "this machine does not have that address; choose one of its own (--host)"),
}
EXAMPLE = "Example: compactbio serve tagger-int8, then open http://127.0.0.1:8000"


def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Fine-tuned NER models, or TYPE=MODEL.")],
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
        import uvicorn

        from compactbio.annotate.server import Limits, create
    except ImportError:
        raise UserError("The server is not installed: pip install 'compactbio[serve]'.") from None
    if token is not None and not token.strip():
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
        uvicorn.Server(uvicorn.Config(app, log_level="info", access_log=False)).run(sockets=sockets)


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
