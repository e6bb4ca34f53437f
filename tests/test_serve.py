"""The server on loopback: answers, shared batches, limits, a graceful stop, no text in logs, and the page."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

import forked
from compactbio import Annotator
from conftest import one_sentence
from serving import serving

pytest.importorskip("uvicorn", reason="the server is not installed")
TEXT = "the patients of aspirin and daily lung cancer"


@pytest.fixture(scope="module")
def server(tagger):
    with serving(tagger, "--max-bytes", "20000", "--max-documents", "50") as one:
        yield one


def test_one_text_and_several_are_annotated_as_by_the_annotator(server, tagger):
    annotator = Annotator.from_pretrained(tagger, runtime="torch-fp32")
    texts = [TEXT, "", "insulin 🙂 aspirin"]
    wanted = [[(e.start, e.end, e.text, e.type) for e in own] for own in annotator(texts)]
    status, body = server.annotate({"texts": texts})
    found = [[(e["start"], e["end"], e["text"], e["type"]) for e in one["entities"]] for one in body["documents"]]
    assert status == 200 and found == wanted and any(wanted)
    status, body = server.annotate({"text": texts[2]})
    assert [(e["start"], e["end"]) for e in body["entities"]] == [(0, 7), (10, 17)]
    assert server.annotate({"text": TEXT, "min_score": 1})[1] == {"entities": []}
    assert server.annotate({"texts": []}) == (200, {"documents": []})


def test_models_health_metrics_and_openapi(server):
    server.annotate({"text": TEXT})
    models = json.loads(server.ask("GET", "/v1/models")[1])["models"]
    assert models == [{"name": "tagger", "types": ["Drug"], "runtime": "torch-fp32", "max_length": 32}]
    assert json.loads(server.ask("GET", "/health")[1]) == {"status": "ok"}
    metrics = server.ask("GET", "/metrics")[1].decode()
    assert 'compactbio_requests_total{status="200"}' in metrics and 'compactbio_entities_total{type="Drug"}' in metrics
    described = json.loads(server.ask("GET", "/openapi.json")[1])["paths"]["/v1/annotate"]["post"]
    assert "examples" in described["requestBody"]["content"]["application/json"]
    assert {"200", "401", "413", "422", "429", "503"} <= set(described["responses"])


def test_an_empty_token_in_the_environment_is_refused_as_one_that_is_given(cli, tagger, monkeypatch):
    one_sentence(cli("serve", tagger, "--token", " "), "The token is empty")
    monkeypatch.setenv("COMPACTBIO_TOKEN", "")
    one_sentence(cli("serve", tagger), "The token is empty")


def test_a_byte_order_mark_before_the_body_is_passed_over(server):
    body, mark = b'{"text": "aspirin"}', b"\xef\xbb\xbf"
    plain, marked = (server.ask("POST", "/v1/annotate", content) for content in (body, mark + body))
    assert plain[:2] == marked[:2] and plain[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"text": "\xe4"}', 422, "byte 0xe4 at offset 10"),
        (b"SECRET", 422, "Invalid request body: Invalid JSON"),
        (b'{"text": 7}', 422, "at text"),
        (b'{"texts": ["a", 7]}', 422, "at texts.1"),
        (b'{"words": "SECRET"}', 422, "at words"),
        (b"{}", 422, "Give one text"),
        (b'{"text": "a", "texts": ["b"]}', 422, "Give one text"),
        (b'{"text": "SECRET", "text": "a"}', 422, "'text' is there twice"),
        (b'{"text": "SECRET", "\\u0074ext": "a"}', 422, "'text' is there twice"),
        (b'{"text": "\\ud800 SECRET"}', 422, "hex escape"),
        (json.dumps({"texts": ["a"] * 51}).encode(), 422, "51 documents are more than the 50"),
        (json.dumps({"texts": ["a"] * 10_000}).encode(), 413, "20,000 bytes"),
        (b'{"text": "' + b"x" * 20_000 + b'"}', 413, "20,000 bytes"),
    ],
)
def test_a_body_that_is_not_ours_is_one_sentence(server, body, status, words):
    found, content, headers = server.ask("POST", "/v1/annotate", body)
    messages = json.loads(content)["error"]
    assert found == status and words in messages and "SECRET" not in messages, messages
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "text", ["", "x" * 15_000, "🙂 مرحبا aspirin", "aspirin \x00", "<script>alert(1)</script> aspirin"]
)
def test_odd_texts_are_answered(server, text):
    status, body = server.annotate({"text": text})
    assert status == 200
    for entity in body["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]


def test_requests_that_arrive_together_share_batches(server):
    before = _batches(server)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: server.annotate({"text": f"{'group ' * (i % 7)}aspirin"}), range(200)))
    assert all(status == 200 and len(body["entities"]) >= 1 for status, body in answers)
    assert [body["entities"][-1]["start"] for _, body in answers] == [6 * (i % 7) for i in range(200)]
    count, documents = (after - old for after, old in zip(_batches(server), before, strict=True))
    assert documents == 200 and count < 200


def _batches(server) -> tuple[float, float]:
    metrics = server.ask("GET", "/metrics")[1].decode()
    found = [
        re.search(rf"^compactbio_batch_documents_{name} (\S+)$", metrics, re.MULTILINE)[1] for name in ("count", "sum")
    ]
    return float(found[0]), float(found[1])


def test_the_waiting_are_bounded_the_taken_are_answered_and_nothing_is_logged(tagger):
    with serving(tagger, "--max-waiting", "8") as one:
        one.annotate({"text": "SECRET aspirin"})
        one.ask("POST", "/v1/annotate", b"SECRET")
        one.ask("GET", "/SECRET?text=SECRET")
        text = "aspirin and the group of patients " * 300
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: one.annotate({"texts": [text] * 4}), range(24)))
        assert {status for status, _ in answers} == {200, 429}
        assert all(len(body["documents"]) == 4 for status, body in answers if status == 200)
        assert all("Too many documents" in body["error"] for status, body in answers if status == 429)
        before = _batches(one)[0]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(one.annotate, {"texts": [text] * 4}) for _ in range(2)]
            while _batches(one)[0] == before:
                time.sleep(0.01)
            # Both are taken, the first is being computed.
            time.sleep(0.1)
            # uvicorn ends by the signal that stopped it.
            assert one.stop() in (0, -signal.SIGTERM)
            assert [future.result()[0] for future in asked] == [200] * 2
        with pytest.raises(OSError):
            one.ask("GET", "/health")
        assert "SECRET" not in one.log and "Traceback" not in one.log


def test_a_client_that_hangs_up_disturbs_nobody(server):
    for cut in (b"POST /v1/annotate HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{", b"POST /v1/ann"):
        with socket.create_connection(("127.0.0.1", server.port)) as wire:
            wire.sendall(cut)
    body = json.dumps({"texts": [TEXT] * 50}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(b"POST /v1/annotate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert server.annotate({"text": "aspirin"})[0] == 200


def test_who_waits_too_long_gets_an_answer_and_the_server_continues(tagger):
    with serving(tagger, "--max-seconds", "0.5") as one:
        text = "aspirin and the group of patients " * 2000
        status, body = one.annotate({"texts": [text] * 10})
        assert status == 503 and "takes too long" in body["error"]
        deadline = time.monotonic() + 60
        while one.annotate({"text": "aspirin"})[0] != 200:
            assert time.monotonic() < deadline


def test_a_token_is_asked_for_and_ten_thousand_documents_are_refused(tagger):
    with serving(tagger, "--token", "open sesame") as one:
        assert one.annotate({"text": TEXT})[0] == 401
        assert one.annotate({"text": TEXT}, Authorization="Bearer wrong")[0] == 401
        assert one.annotate({"text": TEXT}, Authorization="Bearer open sesame")[0] == 200
        assert one.ask("GET", "/v1/models")[0] == 401 and one.ask("GET", "/health")[0] == 200
        status, body = one.annotate({"texts": ["aspirin"] * 10_000}, Authorization="Bearer open sesame")
        assert status == 422 and "10,000 documents" in body["error"]


def test_it_listens_on_loopback_unless_asked_otherwise(server):
    listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
    own = [line.split()[1] for line in listening.splitlines()[1:] if line.split()[1].endswith(f":{server.port:04X}")]
    assert "0100007F" in {address.partition(":")[0] for address in own}
    assert "00000000" not in {address.partition(":")[0] for address in own}


def test_the_page_asks_no_other_host_and_runs_no_other_script(server):
    status, content, headers = server.ask("GET", "/")
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
    pages = b"".join([content, server.ask("GET", "/page.css")[1], server.ask("GET", "/page.js")[1]])
    assert b"http:" not in pages and b"https:" not in pages and b"innerHTML" not in pages


def test_what_a_user_can_fix_is_one_sentence(tagger, tmp_path):
    done = forked.run(
        [sys.executable, "-m", "compactbio", "serve", str(tmp_path / "none"), "--port", "0"],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 2 and "no such model folder" in done.stderr and "Traceback" not in done.stderr
