"""The HTTP server: annotations as JSON, what it does as metrics, and a page to try it on."""

import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

import compactbio
from compactbio.annotate.annotator import Annotator, Entity
from compactbio.annotate.batching import Batcher, FullError, LateError

_EXAMPLE = "Aspirin lowers the risk of colorectal cancer."
# The page asks nothing of any other host, and runs nothing but its own script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {"/": ("page.html", "html"), "/page.css": ("page.css", "css"), "/page.js": ("page.js", "javascript")}
_SAFE = {"X-Content-Type-Options": "nosniff"}
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 1024)
_LOGGER = logging.getLogger("compactbio.server")


@dataclass(frozen=True)
class Limits:
    """What a request may ask: `bytes` of its body, `documents` in it, documents that may be `waiting` in all, `seconds`
    until it is answered; and how many documents `together` make a batch."""

    bytes: int = 1_000_000
    documents: int = 1000
    waiting: int = 4000
    seconds: float = 60.0
    together: int = 64


class Body(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, examples=[_EXAMPLE], description="One text; give this or `texts`.")
    texts: list[str] | None = Field(None, description="Several texts; give this or `text`.")
    min_score: float = Field(0.0, ge=0, le=1, description="Leave out entities with a lower score.")


class Found(BaseModel):
    """An entity: `start` and `end` count characters (Unicode code points) of its text, `end` is exclusive."""

    start: int
    end: int
    text: str
    type: str
    score: float


class One(BaseModel):
    """The entities of one text."""

    entities: list[Found]


class Many(BaseModel):
    """The entities of several texts, in their order."""

    documents: list[One]


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
        self.entities = Counter("compactbio_entities", "Entities found by type.", ["type"], registry=own)
        self.seconds = Histogram("compactbio_request_seconds", "Seconds from request to answer.", registry=own)
        self.batches = Histogram("compactbio_batch_documents", "Documents a batch.", buckets=_SIZES, registry=own)
        self.waiting = Gauge("compactbio_waiting_documents", "Documents that wait for a batch.", registry=own)


def create(annotator: Annotator, *, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The application. With a `token` all but the page, /health and /metrics ask for it as a bearer token."""
    limits = limits or Limits()
    metrics = _Metrics()
    batcher = Batcher(
        annotator,
        waiting=limits.waiting,
        seconds=limits.seconds,
        together=limits.together,
        on_batch=metrics.batches.observe,
    )
    metrics.waiting.set_function(lambda: batcher.waiting)

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
        headers = {"Retry-After": "1"} if refusal.status in (429, 503) else {}
        headers |= {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        return _json({"error": refusal.sentence}, refusal.status, headers)

    def check_token(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise _Refusal(401, "A bearer token is needed: send the header Authorization: Bearer TOKEN.")

    @app.post("/v1/annotate", **_DESCRIBED)
    async def annotate(request: Request) -> Response:
        """Find the entities of one text, or of several."""
        began = time.perf_counter()
        status = 500
        try:
            check_token(request)
            body = _parsed(await _read(request, limits.bytes))
            texts = _texts(body, limits.documents)
            found = await _found(batcher, texts)
            kept = [[entity for entity in own if entity.score >= body.min_score] for own in found]
            status = 200
        except _Refusal as refusal:
            status = refusal.status
            raise
        finally:
            metrics.requests.labels(status).inc()
            metrics.seconds.observe(time.perf_counter() - began)
        metrics.documents.inc(len(texts))
        for own in kept:
            for entity in own:
                metrics.entities.labels(entity.type).inc()
        return _json(_answer(kept, one=body.texts is None))

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        """The models, what they find and what they run on."""
        check_token(request)
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

    @app.get("/health")
    async def health() -> Response:
        """Whether requests are taken."""
        return _json({"status": "ok"})

    @app.get("/metrics")
    async def tell() -> Response:
        """What was done, for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    for path, (name, kind) in _PAGE.items():
        content = files("compactbio.annotate").joinpath(name).read_bytes()
        app.get(path, include_in_schema=False)(_answering(content, f"text/{kind}"))


def _answering(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind, headers={"Content-Security-Policy": _POLICY, **_SAFE})

    return answer


async def _read(request: Request, limit: int) -> bytes:
    """The body, no more of it than is allowed."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_long(limit)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_long(limit)
            parts.append(part)
    except ClientDisconnect:
        raise _Refusal(400, "The body ended too early.") from None
    return b"".join(parts)


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


async def _found(batcher: Batcher, texts: list[str]) -> list[list[Entity]]:
    if not texts:
        return []
    try:
        return await batcher.annotate(texts)
    except FullError:
        raise _Refusal(429, "Too many documents are waiting: try again in a moment.") from None
    except LateError:
        raise _Refusal(503, "The answer takes too long: send fewer documents, or try again in a moment.") from None
    except Exception as error:
        # Its kind alone: its words may hold the text.
        _LOGGER.error("a batch could not be annotated: %s", type(error).__name__)
        raise _Refusal(500, "The text could not be annotated.") from None


def _answer(found: list[list[Entity]], *, one: bool) -> dict[str, Any]:
    documents = [
        {
            "entities": [
                {"start": e.start, "end": e.end, "text": e.text, "type": e.type, "score": round(e.score, 4)}
                for e in own
            ]
        }
        for own in found
    ]
    return documents[0] if one else {"documents": documents}


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, {**_SAFE, **(headers or {})}, "application/json")


def _errors() -> dict[int | str, dict[str, Any]]:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}}
    told = {
        401: "A bearer token is asked for and was not given.",
        413: "The body has too many bytes.",
        422: "The body is not UTF-8, no JSON of this kind, or has too many documents.",
        429: "Too many documents are waiting.",
        503: "The answer takes too long.",
    }
    return {
        status: {"description": text, "content": {"application/json": {"schema": schema}}}
        for status, text in told.items()
    }


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
