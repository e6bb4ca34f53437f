"""A finished model is uploaded as the hub's protocol wants it, to a real server on loopback."""

import base64
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import command


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload meets: make a repository, ask how to upload, commit."""

    def do_GET(self):
        self.answer({"id": "owner/name", "sha": "0" * 40})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.paths.append(self.path)
        if self.headers["Authorization"] != "Bearer hf_test":
            self.answer({"error": "who are you?"}, 401)
        elif self.path == "/api/repos/create":
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
    server.paths, server.files = [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def push(hub, out, token_corpus, teacher_folder, token, home):
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_TOKEN": token,
        "HF_HOME": str(home),
    }
    arguments = command(out, token_corpus, teacher_folder, "--steps", "2", "--push", "owner/name")
    return subprocess.run(arguments, env=environment, capture_output=True, text=True)


def test_push_uploads_the_model_without_its_checkpoints(hub, token_corpus, teacher_folder, tmp_path):
    out = tmp_path / "run"
    refused = push(hub, out, token_corpus, teacher_folder, "hf_wrong", tmp_path / "home")
    assert refused.returncode == 2 and "status 401" in refused.stderr.splitlines()[-1]
    assert not hub.files and (out / "model.safetensors").exists()
    pushed = push(hub, out, token_corpus, teacher_folder, "hf_test", tmp_path / "home")
    assert pushed.returncode == 0, pushed.stderr
    assert "owner/name" in pushed.stdout
    wanted = {"model.safetensors", "config.json", "tokenizer.json", "README.md", "recipe.yaml", "metrics.jsonl"}
    assert wanted <= set(hub.files)
    assert not any(path.startswith(("checkpoints", "tensorboard", ".")) for path in hub.files)
    assert hub.files["model.safetensors"] == (out / "model.safetensors").read_bytes()
