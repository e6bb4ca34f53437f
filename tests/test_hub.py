"""What is fetched from a hub: a real server on loopback that lists and serves the files of two repositories."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from compactbio.hub import model_id

SHA = "0" * 40
BESIDE = {"config.json": b"{}", "vocab.txt": b"[PAD]\n"}
REPOSITORIES = {
    "owner/old": {**BESIDE, "pytorch_model.bin": b"B" * 3000, "tf_model.h5": b"T"},
    "owner/variant": {**BESIDE, "pytorch_model.bin": b"B" * 3000, "model.fp16.safetensors": b"S" * 3000},
    "owner/fresh": {**BESIDE, "model.safetensors": b"S" * 3000},
    "owner/new": {**BESIDE, "pytorch_model.bin": b"B" * 3000, "model.safetensors": b"S" * 3000},
}
SCRIPT = """
import sys
from compactbio.errors import UserError
from compactbio import hub
for asked in sys.argv[1:]:
    name, kind = asked.split(":")
    try:
        print(*sorted(path.name for path in hub.resolve(name, kind=kind).iterdir()))
    except UserError as error:
        print("refused", error)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download meets; `broken` names a file whose body breaks off."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(body=True)

    def do_HEAD(self):
        self.reply(body=False)

    def reply(self, *, body):
        path = self.path.split("?")[0]
        if path == "/":
            return self.send(b"the hub", body=body)
        if path.startswith("/api/models/"):
            name = "/".join(path.split("/")[3:5])
            if name.startswith("status/") or "no-such" in path:
                return self.refuse(int(name[7:] or 0) if name.startswith("status/") else 404)
            tree = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in REPOSITORIES[name].items()
            ]
            listed = {"id": name, "sha": SHA, "siblings": [{"rfilename": one["path"]} for one in tree]}
            return self.send(json.dumps(tree if "/tree/" in path else listed).encode(), body=True)
        name, _, file = path.strip("/").partition(f"/resolve/{SHA}/")
        self.server.fetched.append(f"{name}:{file}")
        return self.send(REPOSITORIES[name][file], body=body, breaks=file == self.server.broken)

    def refuse(self, status):
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RevisionNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content, *, body, breaks=False):
        self.send_response(200)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if breaks else content)
            self.close_connection = breaks

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.fetched, server.broken = [], None
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def resolve(*asked, endpoint=f"http://127.0.0.1:{server.server_port}", timeout=300):
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= {
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "home"),
        }
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, *asked], env=environment, capture_output=True, text=True, timeout=timeout
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    resolve.server = server
    yield resolve
    server.shutdown()


def test_weights_that_torch_saved_are_fetched_where_there_are_no_others(hub):
    assert hub("owner/old:tokenizer", "owner/old:model", "owner/variant:model", "owner/new:model") == [
        "config.json vocab.txt",
        "config.json pytorch_model.bin vocab.txt",
        "config.json model.fp16.safetensors pytorch_model.bin vocab.txt",
        "config.json model.safetensors vocab.txt",
    ]
    assert hub("owner/fresh:tokenizer") == ["config.json vocab.txt"]  # a tokenizer's weights are not fetched
    assert not {"owner/new:pytorch_model.bin", "owner/old:tf_model.h5"} & set(hub.server.fetched)


def test_a_download_that_breaks_off_is_a_sentence_and_can_be_repeated(hub):
    hub.server.broken = "model.safetensors"
    (line,) = hub("owner/new:model")
    assert line.startswith("refused owner/new: the download from the hub broke off")
    hub.server.broken = None
    assert hub("owner/new:model") == ["config.json model.safetensors vocab.txt"]


def test_what_the_hub_refuses_is_said_as_it_is(hub):
    asked = ["status/403", "status/429", "status/500", "status/418", "owner/new@no-such"]
    refused = hub(*(f"{name}:model" for name in asked))
    wanted = ["may use in this way (status 403)", "(status 429); try again later", "(status 500); try again later"]
    for line, words in zip(refused, [*wanted, "refused it (status 418", "not this revision of it"], strict=True):
        assert words in line and "out of reach" not in line


def test_a_hub_that_does_not_answer_is_out_of_reach_within_seconds(hub):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (line,) = hub("owner/new:model", endpoint=address, timeout=60)
    assert "out of reach" in line


def test_a_card_names_only_models_of_the_hub_as_its_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher").mkdir()
    names = ("teacher", str(tmp_path / "teacher"), "owner/name@v2", "bert-base-uncased")
    assert [model_id(name) for name in names] == [None, None, "owner/name", "bert-base-uncased"]
