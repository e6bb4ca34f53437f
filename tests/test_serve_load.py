"""The server under load: long texts by turns, work that nobody waits for left undone, faults and limits named."""

import asyncio
import concurrent.futures
import http.client
import json
import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from compactbio import Annotator
from conftest import one_sentence
from serving import here, watched

pytest.importorskip("uvicorn", reason="the server is not installed")

from compactbio.annotate.request_batches import Batcher, FullError
from compactbio.annotate.server import Limits, create

TEXT = "the patients of aspirin and daily lung cancer "


@pytest.fixture(scope="module")
def annotator(tagger):
    return Annotator.from_pretrained(tagger, runtime="torch-fp32")


@contextmanager
def waiting_model(annotator):
    """An annotator that starts no batch before its event is set, and the event of a batch that waits for it."""
    go, begun = threading.Event(), threading.Event()

    def before(_):
        begun.set()
        go.wait()

    try:
        yield watched(annotator, before), go, begun
    finally:
        go.set()


def sent(client, body: bytes) -> socket.socket:
    """A connection on which a request was sent and no answer read."""
    wire = socket.create_connection(("127.0.0.1", client.port))
    wire.sendall(b"POST /v1/annotate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return wire


def until(condition) -> None:
    """Ask again until a condition holds; the test's own time limit ends it."""
    while not condition():
        pass


def test_a_text_of_the_largest_legal_size_holds_nobody_up(annotator):
    text = TEXT * 19_000
    assert 860_000 < len(text) < 1_000_000
    with here(create(annotator)) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        long = pool.submit(client.annotate, {"text": text})
        until(lambda: client.measured("waiting_documents") == 1)
        answered = 0
        while not long.done():
            assert client.annotate({"text": TEXT})[0] == 200
            assert client.ask("GET", "/health")[0] == 200
            answered += not long.done()
        assert answered >= 3
        status, body = long.result()
    assert status == 200 and len(body["entities"]) == 2 * 19_000
    for entity in body["entities"][::997]:
        assert text[entity["start"] : entity["end"]] == entity["text"] in ("aspirin", "lung cancer")


def test_many_texts_of_one_request_leave_others_their_turn(annotator):
    order = []
    seen = threading.Event()

    def before(rows):
        order.append(len(rows))
        seen.set()

    texts = [TEXT * 20] * 300
    with (
        here(create(watched(annotator, before))) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        many = pool.submit(client.annotate, {"texts": texts})
        seen.wait()
        assert client.annotate({"text": TEXT})[0] == 200
        between = len(order)
        status, body = many.result()
    assert status == 200 and [len(one["entities"]) for one in body["documents"]] == [40] * 300
    assert between < len(order) / 2, "the short request waited for half of the long one"


def test_steps_give_what_one_call_gives(annotator):
    texts = [TEXT * 400, "", "insulin", TEXT.strip() + "." + TEXT * 3]
    work, steps = annotator.steps(texts, tokens=500), 0
    try:
        while True:
            next(work)
            steps += 1
    except StopIteration as end:
        found = end.value
    whole = annotator(texts)
    assert steps > 5 and any(whole)
    assert [[(e.start, e.end, e.type) for e in own] for own in found] == [
        [(e.start, e.end, e.type) for e in own] for own in whole
    ]
    assert [e.score for own in found for e in own] == pytest.approx([e.score for own in whole for e in own], abs=1e-5)


@pytest.mark.parametrize("body", [{"texts": [TEXT * 20] * 900}, {"text": TEXT * 19_000}], ids=["many texts", "a long"])
def test_work_whose_client_is_gone_is_left_undone(annotator, body):
    with waiting_model(annotator) as (own, go, begun), here(create(own)) as client:
        wire = sent(client, json.dumps(body).encode())
        begun.wait()
        wire.close()
        until(lambda: client.measured("waiting_documents") == 0)
        begun.clear()
        go.set()
        # The first step ends; whatever is computed after it is somebody else's.
        assert client.annotate({"text": "aspirin"})[0] == 200
        assert client.measured("batch_documents_sum") < 60
        assert client.measured('requests_total{status="499"}') == 1


def test_work_that_is_late_is_left_undone(annotator):
    with waiting_model(annotator) as (own, go, _), here(create(own, limits=Limits(seconds=0.3))) as client:
        status, body = client.annotate({"texts": [TEXT * 20] * 900})
        assert (status, "takes too long" in body["error"]) == (503, True)
        assert client.measured("waiting_documents") == 0
        go.set()
        until(lambda: client.annotate({"text": "aspirin"})[0] == 200)
        assert client.measured("batch_documents_sum") < 100


@pytest.mark.parametrize(
    ("limits", "status", "word"),
    [
        ({"seconds": 0.2}, "stuck", "one step"),
        ({"waiting": 1}, "full", "wait"),
        ({"characters": 7}, "full", "wait"),
    ],
)
def test_health_says_when_nothing_is_taken(annotator, limits, status, word):
    with waiting_model(annotator) as (own, go, begun), here(create(own, limits=Limits(**limits))) as client:
        assert json.loads(client.ask("GET", "/health")[1]) == {"status": "ok"}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.annotate, {"text": "aspirin"})
            begun.wait()
            until(lambda: client.ask("GET", "/health")[0] == 503)
            messages = json.loads(client.ask("GET", "/health")[1])
            assert messages["status"] == status and word in messages["error"]
            go.set()
            assert asked.result()[0] == (503 if status == "stuck" else 200)
        until(lambda: client.ask("GET", "/health")[0] == 200)


def test_what_waits_is_bounded_in_documents_and_in_characters(annotator):
    async def ask(waiting: int, characters: int, *requests: list[str]) -> list[object]:
        batcher = Batcher(annotator, waiting=waiting, characters=characters, together=8)
        found = await asyncio.gather(*map(batcher.annotate, requests), return_exceptions=True)
        assert (batcher.documents, batcher.characters) == (0, 0)
        await batcher.stop()
        return [type(one) for one in found]

    short, long = ["aspirin"], ["x" * 900]
    assert asyncio.run(ask(100, 1000, short, long, long, short)) == [list, list, FullError, list]
    assert asyncio.run(ask(2, 1000, short, short, short)) == [list, list, FullError]
    # One request is always taken, whatever its size.
    assert asyncio.run(ask(1, 10, long * 3)) == [list]


def test_a_text_that_fails_fails_alone(annotator, tagger, caplog):
    bad = annotator.taggers[0].model.tokenizer.convert_tokens_to_ids("placebo")

    def before(rows):
        if any(bad in row.input_ids for row in rows):
            raise RuntimeError("SECRET placebo")

    texts = ["aspirin", "placebo SECRET", "", "lung cancer"]
    with here(create(watched(annotator, before))) as client:
        status, body = client.annotate({"texts": texts})
        assert status == 200
        assert [list(one) for one in body["documents"]] == [["entities"], ["error"], ["entities"], ["entities"]]
        assert [e["text"] for one in body["documents"] for e in one.get("entities", [])] == ["aspirin", "lung cancer"]
        assert body["documents"][1]["error"] == "The text could not be annotated."
        assert (client.measured("failed_total"), client.measured("documents_total")) == (1, 3)
        # Alone, and where all fail, the request fails.
        assert client.annotate({"text": "placebo"}) == (500, {"error": "The text could not be annotated."})
        assert client.annotate({"texts": ["placebo", "placebo"]})[0] == 500
        assert (client.measured("failed_total"), client.measured("documents_total")) == (4, 3)
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            asked = [pool.submit(client.annotate, {"text": text}) for text in ["aspirin", "placebo"] * 12]
            assert [one.result()[0] for one in asked] == [200, 500] * 12
    assert "RuntimeError" in caplog.text and "SECRET" not in caplog.text


def test_a_body_that_comes_too_slowly_is_left_and_its_connection_closed(annotator):
    with here(create(annotator, limits=Limits(seconds=0.3))) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as wire:
            wire.sendall(b'POST /v1/annotate HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"text": "')
            answer = b""
            while part := wire.recv(4096):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 408 " in head.splitlines()[0] and b"within 0.3 seconds" in json.loads(body)["error"].encode()
        assert client.annotate({"text": "aspirin"})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/SECRET", 404),
        ("POST", "/", 405),
        ("GET", "/v1/annotate", 405),
        ("OPTIONS", "/v1/annotate", 405),
        ("PUT", "/v1/models", 405),
        ("DELETE", "/health", 405),
        ("PATCH", "/SECRET", 404),
        ("POST", "/v1/annotate/", 404),
        ("GET", "/health/", 404),
        ("GET", "/openapi.json/", 404),
    ],
)
def test_every_refusal_has_the_same_form(client, method, path, status):
    found, content, headers = client.ask(method, path)
    assert found == status and headers["content-type"] == "application/json"
    messages = json.loads(content)
    assert list(messages) == ["error"] and messages["error"].endswith(".") and "SECRET" not in messages["error"]
    assert (headers["allow"] is not None) == (status == 405)


@pytest.fixture(scope="module")
def client(annotator):
    with here(create(annotator)) as one:
        yield one


def test_head_has_the_status_and_no_body_and_what_is_compressed_is_refused(client):
    assert client.ask("HEAD", "/SECRET")[:2] == (404, b"")
    status, content, _ = client.ask("POST", "/v1/annotate", b"\x1f\x8b", Content_Encoding="gzip")
    assert status == 415 and "compressed" in json.loads(content)["error"]
    for plain in ("identity", "Identity", ""):
        assert client.annotate({"text": "aspirin"}, Content_Encoding=plain)[0] == 200


@pytest.mark.parametrize(
    "offer",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
        b"Sec-WebSocket-Version: 13\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Upgrade: TLS/1.2\r\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_offers_another_protocol_is_answered_in_http(client, offer, at_once):
    body = b'{"text": "aspirin"}'
    head = b"POST /v1/annotate HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (offer, len(body))
    with socket.create_connection(("127.0.0.1", client.port), timeout=5) as wire:
        for part in [head + body] if at_once else [head, body]:
            wire.sendall(part)
            time.sleep(0.05)
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        assert answer.status == 200 and json.loads(answer.read())["entities"][0]["text"] == "aspirin"


@pytest.mark.parametrize("token", ["sesame", "schlüssel", "ключ 🙂"])
def test_tokens_are_compared_as_bytes(annotator, token):
    with here(create(annotator, token=token)) as client:
        sayings = [f"Bearer {token}".encode(), f"bearer {token}".encode()]
        sayings += [f"Bearer {token}".encode("latin-1")] if "ü" in token else []
        for saying in sayings:
            assert client.annotate({"text": "aspirin"}, Authorization=saying)[0] == 200
        wrong = [b"Bearer \xff\xfe", "Bearer ärger".encode(), b"Bearer", b"", f"Basic {token}".encode(), b"\xe4"]
        for saying in [*wrong, f"Bearer {token}x".encode()]:
            status, content, headers = client.ask("POST", "/v1/annotate", b"{}", Authorization=saying)
            assert status == 401 and "bearer token" in json.loads(content)["error"]
            assert headers["www-authenticate"] == "Bearer"
        assert client.ask("GET", "/v1/models", Authorization=b"\xff")[0] == 401


def test_a_place_that_cannot_be_listened_at_is_one_sentence(cli, tagger):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_sentence(cli("serve", tagger, "--port", port), f"port {port}", "in use", "--port")
        one_sentence(cli("serve", tagger, "--port", port, "--host", "localhost"), f"port {port}", "in use")
    # 203.0.113.0/24 is set aside for documents.
    one_sentence(cli("serve", tagger, "--port", 0, "--host", "203.0.113.1"), "does not have that address", "--host")
    for host in ("no-such-host.invalid", "", "x" * 300, "a b"):
        one_sentence(cli("serve", tagger, "--port", 0, "--host", host), "no such host", "--host")
    one_sentence(cli("serve", tagger, "--port", 0, "--token", " "), "token is empty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen on every port")
def test_a_port_without_the_right_to_it_is_one_sentence(cli, tagger):
    one_sentence(cli("serve", tagger, "--port", 1), "port 1 ", "may not use it")
