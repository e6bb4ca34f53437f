"""A finished model is uploaded as the hub's protocol wants it, to a real server on loopback."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub.utils import filter_repo_objects

from compactbio.training import run_folder
from conftest import command


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload meets: make a repository, ask how to upload, commit."""

    def do_GET(self):
        self.answer({"id": "owner/name", "sha": "0" * 40})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.paths.append(self.path)
        if "wrong" in self.headers["Authorization"]:
            self.answer({"error": "who are you?"}, 401)
        elif self.path == "/api/validate-yaml" and "card" in self.headers["Authorization"]:
            self.answer({"errors": [{"message": '"base_model" is not valid'}], "warnings": []}, 400)
        elif self.path == "/api/repos/create" and "broken" in self.headers["Authorization"]:
            self.close_connection = True
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self.answer({"url": f"http://{self.headers['Host']}/owner/name", "name": "owner/name", "id": "owner/name"})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"]} for file in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{**file, **modes} for file in files]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.files |= {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            address = f"http://{self.headers['Host']}/owner/name/commit/{'1' * 40}"
            self.answer({"success": True, "commitOid": "1" * 40, "commitUrl": address, "hookOutput": ""})
        else:
            self.answer({"errors": [], "warnings": []})

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.paths, server.files, server.made = [], {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


# One process runs the command with each token that it is sent, which saves loading the libraries for each.
SCRIPT = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from compactbio.cli import main

for token in sys.stdin:
    os.environ["HF_TOKEN"] = token.strip()
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as messages:
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
    print(json.dumps([status, printed.getvalue(), messages.getvalue()]), flush=True)
"""


@pytest.fixture
def push(hub, token_corpus, teacher_folder, tmp_path):
    """Train and push with a token: (status, stdout, stderr)."""
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "home"),
    }
    arguments = command(tmp_path / "run", token_corpus, teacher_folder, "--steps", "2", "--push", "owner/name")[3:]
    started = [sys.executable, "-c", SCRIPT, *arguments]
    with subprocess.Popen(
        started, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def answer(token):
            process.stdin.write(f"{token}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield answer


def test_the_trials_of_a_search_are_not_published():
    files = ["model.safetensors", "search.json", "search/a/model.safetensors", "search/a/checkpoints/best/x", ".a.lock"]
    kept = filter_repo_objects(files, ignore_patterns=list(run_folder._NOT_PUBLISHED))
    assert list(kept) == ["model.safetensors", "search.json"]


def test_push_uploads_the_model_without_its_checkpoints(hub, push, tmp_path):
    out = tmp_path / "run"
    status, _, messages = push("hf_wrong")
    assert status == 2 and "status 401" in messages.splitlines()[-1]
    assert not hub.files and (out / "model.safetensors").exists()
    status, _, messages = push("hf_card")
    assert status == 2 and "the hub refuses the card" in messages.splitlines()[-1]
    status, _, messages = push("hf_broken")
    assert status == 2 and "the upload broke off" in messages.splitlines()[-1] and not hub.files
    status, printed, messages = push("hf_test")
    assert status == 0, messages
    made = hub.made[-1]  # older versions of the hub's library say private: true
    assert "owner/name" in printed and (made.get("visibility") == "private" or made["private"])
    wanted = {"model.safetensors", "config.json", "tokenizer.json", "README.md", "recipe.yaml", "metrics.jsonl"}
    assert wanted <= set(hub.files)
    assert not any(path.startswith(("checkpoints", "tensorboard", ".")) for path in hub.files)
    assert hub.files["model.safetensors"] == (out / "model.safetensors").read_bytes()
