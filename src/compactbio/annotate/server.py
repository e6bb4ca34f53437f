"""The HTTP server: annotations as JSON, what it does as metrics, and a page to try it on."""

import asyncio
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

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import compactbio
from compactbio.annotate.annotator import Annotator, Entity
from compactbio.annotate.request_batches import Batcher, Found, FullError

_EXAMPLE = "Aspirin lowers the risk of colorectal cancer."
# The page asks nothing of any other host, and runs nothing but its own script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {"/": ("page.html", "html"), "/page.css": ("page.css", "css"), "/page.js": ("page.js", "javascript")}
_SAFE = {"X-Content-Type-Options": "nosniff"}
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}
_SENTENCES = {
    404: "There is nothing at this path: POST /v1/annotate takes texts, / is a page to try it on.",
    405: "This path does not take this method: the header Allow names what it takes.",
}
_FAILED = "The text could not be annotated."
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 1024)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
_LOGGER = logging.getLogger("compactbio.server")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What a request may ask: `bytes` of its body, `documents` in it, `seconds` until its body is there and it is
    answered. In all, `waiting` documents with `characters` may be without an answer; `together` make a batch."""

    bytes: int = 1_000_000
    documents: int = 1000
    waiting: int = 4000
    seconds: float = 60.0
    together: int = 64
    characters: int = 4_000_000


class Body(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, examples=[_EXAMPLE], description="One text; give this or `texts`.")
    texts: list[str] | None = Field(None, description="Several texts; give this or `text`.")
    min_score: float = Field(0.0, ge=0, le=1, description="Leave out entities with a lower score.")


class Mention(BaseModel):
    """An entity: `start` and `end` count characters (Unicode code points) of its text, `end` is exclusive."""

    start: int
    end: int
    text: str
    type: str
    score: float


class One(BaseModel):
    """The entities of one text."""

    entities: list[Mention]


class Failed(BaseModel):
    """A text that could not be annotated."""

    error: str


class Many(BaseModel):
    """The entities of several texts, in their order; a text that fails is named as such and leaves the others alone."""

    documents: list[One | Failed]


class _Refusal(Exception):  # noqa: N818 (an answer, not a fault)
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class _Metrics:
    """What the server tells Prometheus."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self.registry = own
        self.requests = Counter("compactbio_requests", "Requests of annotations by status.", ["status"], registry=own)
        self.documents = Counter("compactbio_documents", "Documents annotated.", registry=own)
        self.failed = Counter("compactbio_failed", "Documents that could not be annotated.", registry=own)
        self.entities = Counter("compactbio_entities", "Entities found by type.", ["type"], registry=own)
        self.seconds = Histogram("compactbio_request_seconds", "Seconds from request to answer.", registry=own)
        self.batches = Histogram("compactbio_batch_documents", "Documents a batch.", buckets=_SIZES, registry=own)
        self.waiting = Gauge("compactbio_waiting_documents", "Documents taken and not answered yet.", registry=own)


def create(annotator: Annotator, *, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The application. With a `token`, /v1/ asks for it as a bearer token."""
    limits = limits or Limits()
    metrics = _Metrics()
    batcher = Batcher(
        annotator,
        waiting=limits.waiting,
        characters=limits.characters,
        together=limits.together,
        on_batch=metrics.batches.observe,
    )
    metrics.waiting.set_function(lambda: batcher.documents)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await batcher.stop()

    app = FastAPI(
        title="compactbio",
        version=compactbio.__version__,
        description="Biomedical entities with character offsets.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )

    @app.exception_handler(_Refusal)
    async def refuse(_: Request, refusal: _Refusal) -> Response:
        return _json({"error": refusal.sentence}, refusal.status, _HEADERS.get(refusal.status))

    @app.exception_handler(HTTPException)
    async def refuse_otherwise(_: Request, error: HTTPException) -> Response:
        sentence = _SENTENCES.get(error.status_code, f"{error.detail}.")
        return _json({"error": sentence}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> Response:
        return _json({"error": f"The server failed ({type(error).__name__})."}, 500)

    expected = [] if token is None else _forms(token)

    def check_token(given: HTTPAuthorizationCredentials | None) -> None:
        # Starlette reads header values as Latin-1: so back to the bytes that were sent.
        sent = given.credentials.encode("latin-1") if given else b""
        if expected and not any(hmac.compare_digest(sent, form) for form in expected):
            raise _Refusal(401, "A bearer token is needed: send the header Authorization: Bearer TOKEN.")

    @app.post("/v1/annotate", **_DESCRIBED)
    async def annotate(request: Request, credentials: _Credentials) -> Response:
        """Find the entities of one text, or of several."""
        began = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + limits.seconds
        status = 500
        try:
            check_token(credentials)
            body = _parsed(await _read(request, limits, deadline))
            texts = _texts(body, limits.documents)
            found = await _unless_gone(request, _found(batcher, texts, deadline))
            counts, answer = _answer(found, body)
            status = 200
        except _Refusal as refusal:
            status = refusal.status
            raise
        finally:
            metrics.requests.labels(status).inc()
            metrics.seconds.observe(time.perf_counter() - began)
        metrics.documents.inc(len(texts))
        metrics.failed.inc(sum(isinstance(own, Exception) for own in found))
        for kind, count in counts.items():
            metrics.entities.labels(kind).inc(count)
        return answer

    @app.get("/v1/models")
    async def models(credentials: _Credentials) -> Response:
        """The models, what they find and what they run on."""
        check_token(credentials)
        told = [
            {
                "name": one.model.name,
                "types": one.types,
                "runtime": one.model.runtime.name,
                "max_length": one.model.max_length,
            }
            for one in annotator.taggers
        ]
        return _json({"models": told, "limits": {"bytes": limits.bytes, "documents": limits.documents}})

    @app.get("/health", responses={503: _error_described("The model is stuck, or too much waits for it.")})
    async def health() -> Response:
        """Whether requests are taken: status "ok", or 503 with "stuck" or "full" and a sentence."""
        if batcher.busy > limits.seconds:
            told = f"The model has been at one step for more than {limits.seconds:g} seconds, a request's whole time."
            return _json({"status": "stuck", "error": told}, 503)
        if batcher.full:
            return _json({"status": "full", "error": "No more documents or characters may wait."}, 503)
        return _json({"status": "ok"})

    @app.get("/metrics")
    async def tell() -> Response:
        """What was done, for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    _add_page(app)
    return app


def _forms(token: str) -> list[bytes]:
    """A token's bytes as clients send them: in UTF-8, or, as HTTP libraries write headers, in Latin-1."""
    forms = [os.fsencode(token)]
    with suppress(UnicodeEncodeError):
        forms.append(token.encode("latin-1"))
    return forms


def _add_page(app: FastAPI) -> None:
    for path, (name, kind) in _PAGE.items():
        content = files("compactbio.annotate").joinpath(name).read_bytes()
        app.get(path, include_in_schema=False)(_answering(content, f"text/{kind}"))


def _answering(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind, headers={"Content-Security-Policy": _POLICY, **_SAFE})

    return answer


async def _read(request: Request, limits: Limits, deadline: float) -> bytes:
    """The body, no more of it than is allowed, and no later."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _Refusal(415, "The body is compressed: send it as it is, without Content-Encoding.")
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limits.bytes:
        raise _too_long(limits.bytes)
    parts, size = [], 0
    try:
        async with asyncio.timeout_at(deadline):
            async for part in request.stream():
                size += len(part)
                if size > limits.bytes:
                    raise _too_long(limits.bytes)
                parts.append(part)
    except ClientDisconnect:
        raise _Refusal(400, "The body ended too early.") from None
    except TimeoutError:
        raise _Refusal(408, f"The body was not there within {limits.seconds:g} seconds: send it faster.") from None
    return b"".join(parts)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled where the client hangs up first."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Refusal(499, "The client hung up.")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    # After the body the server hands out nothing but the news that the client went away.
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_long(limit: int) -> _Refusal:
    return _Refusal(413, f"The body has more than {limit:,} bytes: send fewer documents at once.")


def _parsed(raw: bytes) -> Body:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refusal(422, f"The body is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}.") from None
    try:
        return Body.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    raise _Refusal(422, f"The body is not as it should be{f', at {where}' if where else ''}: {first['msg']}.")


def _texts(body: Body, limit: int) -> list[str]:
    if (body.text is None) == (body.texts is None):
        raise _Refusal(422, 'Give one text as {"text": "..."}, or several as {"texts": ["...", "..."]}.')
    texts = [body.text] if body.text is not None else body.texts or []
    if len(texts) > limit:
        raise _Refusal(422, f"{len(texts):,} documents are more than the {limit:,} that a request may have.")
    return texts


async def _found(batcher: Batcher, texts: list[str], deadline: float) -> list[Found]:
    """What was found in each text, or its failure; a request of which every text fails is one that fails."""
    if not texts:
        return []
    try:
        async with asyncio.timeout_at(deadline):
            found = await batcher.annotate(texts)
    except FullError:
        raise _Refusal(429, "Too many documents or characters are waiting: try again in a moment.") from None
    except TimeoutError:
        raise _Refusal(503, "The answer takes too long: send fewer documents, or try again in a moment.") from None
    failures = [own for own in found if isinstance(own, Exception)]
    for error in failures:
        # Its kind alone: its words may hold the text.
        _LOGGER.error("a text could not be annotated: %s", type(error).__name__)
    if len(failures) == len(found):
        raise _Refusal(500, _FAILED)
    return found


def _answer(found: list[Found], body: Body) -> tuple[Counts[str], Response]:
    """How many entities of each type are given, and the answer that gives them."""
    counts: Counts[str] = Counts()
    documents: list[dict[str, Any]] = []
    for own in found:
        if isinstance(own, Exception):
            documents.append({"error": _FAILED})
            continue
        kept = [entity for entity in own if entity.score >= body.min_score]
        counts.update(entity.type for entity in kept)
        documents.append({"entities": list(map(_mention, kept))})
    return counts, _json(documents[0] if body.texts is None else {"documents": documents})


def _mention(entity: Entity) -> dict[str, Any]:
    start, end, score = entity.start, entity.end, round(entity.score, 4)
    return {"start": start, "end": end, "text": entity.text, "type": entity.type, "score": score}


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, {**_SAFE, **(headers or {})}, "application/json")


def _error_described(text: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _errors() -> dict[int | str, dict[str, Any]]:
    told = {
        401: "A bearer token is needed and was not given.",
        408: "The body did not arrive in time.",
        413: "The body has too many bytes.",
        415: "The body is compressed.",
        422: "The body is not UTF-8, not JSON of this kind, or has too many documents.",
        429: "Too many documents or characters are waiting.",
        500: "Every text of the request failed. Of several texts one that fails has an `error` in place of `entities`.",
        503: "The answer takes too long.",
    }
    return {status: _error_described(text) for status, text in told.items()}


def _request_body() -> dict[str, Any]:
    examples = {
        "one": {"summary": "One text", "value": {"text": _EXAMPLE}},
        "several": {"summary": "Several texts", "value": {"texts": [_EXAMPLE, "No pneumonia."], "min_score": 0.5}},
    }
    content = {"schema": Body.model_json_schema(), "examples": examples}
    return {"required": True, "content": {"application/json": content}}


_DESCRIBED: dict[str, Any] = {
    "response_model": One | Many,
    "responses": _errors(),
    "openapi_extra": {"requestBody": _request_body()},
}
