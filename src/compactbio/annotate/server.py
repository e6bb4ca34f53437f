"""The HTTP server: annotations as JSON, metrics for Prometheus, and a page to try it on."""

import asyncio
import codecs
import hmac
import json
import logging
import os
import time
from collections import Counter as Counts
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import compactbio
from compactbio.annotate.annotator import Annotator, Entity
from compactbio.annotate.http_schema import DESCRIPTION, Body, error_response
from compactbio.annotate.request_batches import Batcher, Found, FullError

ANNOTATE = "/v1/annotate"
# The page asks nothing of any other host, and runs nothing but its own script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {"/": ("page.html", "html"), "/page.css": ("page.css", "css"), "/page.js": ("page.js", "javascript")}
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_LATER = {"Retry-After": "1"}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 408: {"Connection": "close"}, 429: _LATER, 503: _LATER}
_SENTENCES = {
    404: "There is nothing at this path: POST /v1/annotate takes texts, / is a page to try it on.",
    405: "This path does not take this method: the header Allow names what it takes.",
}
_FAILED = "The text could not be annotated."
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 1024)
_LOGGER = logging.getLogger("compactbio.server")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What requests may ask."""

    bytes: int = 1_000_000  # of a request's body
    documents: int = 1000  # texts of a request
    waiting: int = 4000  # texts that may be without an answer, of all requests
    seconds: float = 60.0  # until a request is answered or refused
    together: int = 64  # texts of a batch
    characters: int = 4_000_000  # that may be without an answer, of all requests


class _Metrics:
    """What Prometheus reads."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "compactbio_requests", "Requests of annotations by status.", ["status"], registry=registry
        )
        self.documents = Counter("compactbio_documents", "Documents annotated.", registry=registry)
        self.failed = Counter("compactbio_failed", "Documents that could not be annotated.", registry=registry)
        self.entities = Counter("compactbio_entities", "Entities found by type.", ["type"], registry=registry)
        self.seconds = Histogram("compactbio_request_seconds", "Seconds from request to answer.", registry=registry)
        self.batches = Histogram(
            "compactbio_batch_documents", "Documents per batch.", buckets=_SIZES, registry=registry
        )
        self.waiting = Gauge("compactbio_waiting_documents", "Documents without an answer yet.", registry=registry)


def create(annotator: Annotator, *, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """Make the application that serves an annotator; /v1/ asks for the bearer `token` where there is one."""
    limits, metrics = limits or Limits(), _Metrics()
    batcher = Batcher(
        annotator,
        waiting=limits.waiting,
        characters=limits.characters,
        together=limits.together,
        on_batch=metrics.batches.observe,
    )
    metrics.waiting.set_function(lambda: batcher.documents)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await batcher.stop()

    app = FastAPI(
        title="compactbio",
        version=compactbio.__version__,
        description="Biomedical entities with character offsets.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(_Measured, metrics=metrics)
    _handle_errors(app)
    guard = [Depends(_token_check(token))]
    _serve_annotations(app, batcher, metrics, limits, guard)
    _serve_state(app, annotator, batcher, metrics, limits, guard)
    for path, (name, kind) in _PAGE.items():
        app.get(path, include_in_schema=False)(_page(name, f"text/{kind}"))
    return app


def _token_check(token: str | None) -> Callable[..., Awaitable[None]]:
    """What refuses a request without the token, where there is one."""
    tokens = [] if token is None else _encodings(token)

    async def check_token(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        # Starlette reads header values as Latin-1: so back to the bytes that were sent.
        sent = given.credentials.encode("latin-1") if given else b""
        if tokens and not any(hmac.compare_digest(sent, one) for one in tokens):
            raise _refusal(401, "A bearer token is needed: send the header Authorization: Bearer TOKEN.")

    return check_token


def _serve_annotations(app: FastAPI, batcher: Batcher, metrics: _Metrics, limits: Limits, guard: list[Any]) -> None:
    """Add the path that takes texts."""

    async def deadline() -> float:
        return asyncio.get_running_loop().time() + limits.seconds

    async def body(request: Request, until: Annotated[float, Depends(deadline)]) -> Body:
        found = _parsed(await _read(request, limits, until))
        if (count := len(found.all_texts)) > limits.documents:
            raise _refusal(422, f"{count:,} documents are more than the {limits.documents:,} that a request may have.")
        return found

    @app.post(ANNOTATE, dependencies=guard, **DESCRIPTION)
    async def annotate(
        request: Request, body: Annotated[Body, Depends(body)], until: Annotated[float, Depends(deadline)]
    ) -> Response:
        """Find the entities of one text, or of several."""
        found = await _unless_gone(request, _found(batcher, body.all_texts, until))
        failures = [one for one in found if isinstance(one, Exception)]
        for error in failures:
            # Its kind alone: its words may hold the text.
            _LOGGER.error("a text could not be annotated: %s", type(error).__name__)
        metrics.documents.inc(len(found) - len(failures))
        metrics.failed.inc(len(failures))
        if failures and len(failures) == len(found):
            raise _refusal(500, _FAILED)  # a request of which every text fails is one that fails
        counts, answer = _answer(found, body)
        for kind, count in counts.items():
            metrics.entities.labels(kind).inc(count)
        return answer


def _serve_state(
    app: FastAPI, annotator: Annotator, batcher: Batcher, metrics: _Metrics, limits: Limits, guard: list[Any]
) -> None:
    """Add the paths that tell of the models, the server's health and what was done."""

    @app.get("/v1/models", dependencies=guard)
    async def models() -> Response:
        """The models, what they find and what they run on."""
        described = [
            {
                "name": one.model.name,
                "types": one.types,
                "runtime": one.model.runtime.name,
                "max_length": one.model.max_length,
            }
            for one in annotator.taggers
        ]
        return _json({"models": described, "limits": {"bytes": limits.bytes, "documents": limits.documents}})

    @app.get("/health", responses={503: error_response("The model is stuck, or too much waits for it.")})
    async def health() -> Response:
        """Whether requests are taken: status "ok", or 503 with "stuck" or "full" and a sentence."""
        if batcher.busy > limits.seconds:
            stuck = f"The model has been at one step for more than {limits.seconds:g} seconds, a request's whole time."
            return _json({"status": "stuck", "error": stuck}, 503)
        if batcher.full:
            return _json({"status": "full", "error": "No more documents or characters may wait."}, 503)
        return _json({"status": "ok"})

    @app.get("/metrics")
    async def prometheus() -> Response:
        """What was done, for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def http_server(app: FastAPI, *, log_level: str = "info") -> uvicorn.Server:
    """The server of an application, to be run on sockets: HTTP/1.1 alone, whatever else a request offers to speak."""
    # Not httptools, which stops reading at such an offer: the body would be lost.
    return uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_level=log_level, access_log=False))


class _Measured:
    """Middleware that counts the requests of annotations by status, and times them."""

    def __init__(self, app: ASGIApp, metrics: _Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", ANNOTATE):
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            self._metrics.requests.labels(status).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)


def _handle_errors(app: FastAPI) -> None:
    """Have every error answered as {"error": a sentence}."""

    @app.exception_handler(RequestValidationError)
    async def invalid_body(_: Request, invalid: RequestValidationError) -> Response:
        first = invalid.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        return _json({"error": f"Invalid request body{f', at {place}' if place else ''}: {message}."}, 422)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        sentence = error.detail if error.detail.endswith(".") else _SENTENCES.get(error.status_code, f"{error.detail}.")
        return _json({"error": sentence}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return _json({"error": f"The server failed ({type(error).__name__})."}, 500)


def _refusal(status: int, sentence: str) -> HTTPException:
    return HTTPException(status, sentence, _HEADERS.get(status))


def _encodings(token: str) -> list[bytes]:
    """A token's bytes as clients send them: in UTF-8, or, as HTTP libraries write headers, in Latin-1."""
    found = [os.fsencode(token)]
    with suppress(UnicodeEncodeError):
        found.append(token.encode("latin-1"))
    return found


def _page(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = files("compactbio.annotate").joinpath(name).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=kind, headers={"Content-Security-Policy": _POLICY, **_NO_SNIFF})

    return answer


async def _read(request: Request, limits: Limits, until: float) -> bytes:
    """The body, no more of it than is allowed, and no later."""
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise _refusal(415, "The body is compressed: send it as it is, without Content-Encoding.")
    too_long = _refusal(413, f"The body has more than {limits.bytes:,} bytes: send fewer documents at once.")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.bytes:
        raise too_long
    content = bytearray()
    try:
        async with asyncio.timeout_at(until):
            async for part in request.stream():
                content += part
                if len(content) > limits.bytes:
                    raise too_long
    except ClientDisconnect:
        raise _refusal(400, "The body ended too early.") from None
    except TimeoutError:
        raise _refusal(408, f"The body did not arrive within {limits.seconds:g} seconds: send it faster.") from None
    return bytes(content)


def _parsed(content: bytes) -> Body:
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise _refusal(422, f"Invalid request body: it is not UTF-8 ({place}).") from None
    try:
        body = Body.model_validate_json(content)
    except ValidationError as error:
        # Without the input, which may be a patient's text.
        raise RequestValidationError(
            error.errors(include_input=False, include_url=False, include_context=False)
        ) from None
    # Here, as pydantic keeps the last of two without a word; the body has no object but the outer one.
    keys = json.loads(content, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    name, count = Counts(keys).most_common(1)[0]
    if count > 1:
        raise _refusal(422, f"Invalid request body: {name!r} is there twice; give it once.")
    return body


async def _unless_gone(request: Request, answer: Coroutine[Any, Any, Result]) -> Result:
    """The result of `answer`, which is cancelled where the client hangs up first."""
    working, gone = asyncio.create_task(answer), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _refusal(499, "The client hung up.")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    # After the body the server gives no message but that the client disconnected.
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _found(batcher: Batcher, texts: list[str], until: float) -> list[Found]:
    """What was found in each text, or its failure."""
    if not texts:
        return []
    try:
        async with asyncio.timeout_at(until):
            found = await batcher.annotate(texts)
    except FullError:
        raise _refusal(429, "Too many documents or characters are waiting: try again in a moment.") from None
    except TimeoutError:
        raise _refusal(503, "The answer takes too long: send fewer documents, or try again in a moment.") from None
    return found


def _answer(found: list[Found], body: Body) -> tuple[Counts[str], Response]:
    """How many entities of each type are given, and the answer that gives them."""
    counts, documents = Counts[str](), list[dict[str, Any]]()
    for result in found:
        if isinstance(result, Exception):
            documents.append({"error": _FAILED})
        else:
            kept = [entity for entity in result if entity.score >= body.min_score]
            counts.update(entity.type for entity in kept)
            documents.append({"entities": [_mention(one) for one in kept]})
    return counts, _json(documents[0] if body.texts is None else {"documents": documents})


def _mention(entity: Entity) -> dict[str, Any]:
    start, end, score = entity.start, entity.end, round(entity.score, 4)
    return {"start": start, "end": end, "text": entity.text, "type": entity.type, "score": score}


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, {**_NO_SNIFF, **(headers or {})}, "application/json")
