"""A server for tests to talk to: `compactbio serve` in a process of its own, or an application in this one."""

import http.client
import json
import re
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from subprocess import PIPE, STDOUT

import forked
from compactbio import Annotator


class Client:
    """Asks what listens on `port` of loopback."""

    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | bytes):
        """(status, body, headers) of an answer; _ in a header's name stands for a hyphen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content, response.headers

    def annotate(self, value: object, **headers: str | bytes):
        """(status, JSON) of POST /v1/annotate."""
        status, content, _ = self.ask("POST", "/v1/annotate", json.dumps(value).encode(), **headers)
        return status, json.loads(content)

    def measured(self, name: str) -> float:
        """A number of /metrics."""
        metrics = self.ask("GET", "/metrics")[1].decode()
        return float(re.search(rf"^compactbio_{name} (\S+)$", metrics, re.MULTILINE)[1])


class Server(Client):
    """A `compactbio serve` of its own process; `log` holds what it said, after it ended."""

    def __init__(self, model, *options: str) -> None:
        command = [sys.executable, "-m", "compactbio", "serve", str(model), "--port", "0", "--runtime", "torch-fp32"]
        self.process = forked.Popen([*command, *options], stdout=PIPE, stderr=STDOUT, text=True)
        self.log = ""
        for line in self.process.stdout:
            self.log += line
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(self.log)

    def stop(self) -> int:
        """End it as a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        self.log += self.process.communicate(timeout=60)[0]
        return self.process.returncode


@contextmanager
def serving(model, *options: str):
    """A server for a while."""
    server = Server(model, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@contextmanager
def here(app):
    """A client of an application that is served in a thread of this process."""
    from compactbio.annotate.server import http_server

    client = Client()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client.port = listening.getsockname()[1]
        server = http_server(app, log_level="warning")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join()


class Watched:
    """A runtime that first gives each batch of rows to `before`."""

    def __init__(self, runtime, before) -> None:
        self.name, self._runtime, self._before = runtime.name, runtime, before

    def logits(self, rows):
        self._before(rows)
        return self._runtime.logits(rows)


def watched(annotator: Annotator, before) -> Annotator:
    """The annotator with `before` called on the rows of each batch."""
    taggers = [
        replace(one, model=replace(one.model, runtime=Watched(one.model.runtime, before))) for one in annotator.taggers
    ]
    return Annotator(taggers)
