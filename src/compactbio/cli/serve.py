"""`compactbio serve`: annotations over HTTP, and a page to try them on."""

import errno
import socket
from contextlib import suppress
from typing import Annotated

import typer

from compactbio.cli import options

# What an address fails with that this machine does not have, as ::1 where there is no IPv6.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_REASONS = {
    errno.EADDRINUSE: "it is in use; stop what listens there, or name another port with --port",
    errno.EACCES: "this user has no right to it; name a port above 1023 with --port",
    **dict.fromkeys(_ABSENT, "this machine does not have that address; name one of its own with --host"),
}
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
    if token is not None and not token.strip():
        raise UserError("The token is empty: give one, or leave out --token.")
    # Before the models are loaded: whoever cannot listen learns it at once.
    sockets = _listening(host, port)
    typer.echo("Loading ...", err=True)
    annotator = Annotator.from_pretrained(*models, runtime=runtime.value, threads=threads)
    app = create(annotator, limits=Limits(max_bytes, max_documents, max_waiting, max_seconds), token=token)
    told = ", ".join(f"{one.model.name} on {one.model.runtime.name}" for one in annotator.taggers)
    where = f"[{host}]" if ":" in host else host
    typer.echo(f"Serving {told}, running on http://{where}:{sockets[0].getsockname()[1]}. Ctrl-C stops.", err=True)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="info", access_log=False)).run(sockets=sockets)


def _listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on each address of `host` that this machine has. Raises UserError where there is none."""
    from compactbio.errors import UserError

    found: list[socket.socket] = []
    fault: Exception | None = None
    try:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            # The port that the first address got, where any free one is wanted.
            own = (address[0], found[0].getsockname()[1] if found else port, *address[2:])
            try:
                found.append(socket.create_server(own, family=family))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                fault = error
        if found:
            return found
    except (OSError, UnicodeError) as error:
        fault = error
    for one in found:
        one.close()
    reason = _REASONS.get(getattr(fault, "errno", None) or 0, "there is no such host; name one with --host")
    raise UserError(f"Cannot listen on port {port} of {host!r}: {reason}.")
