"""A `compactbio serve` in a process of its own, for tests to talk to."""

import http.client
import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager


class Server:
    """A `compactbio serve` of its own process; `log` holds what it said, after it ended."""

    def __init__(self, model, *options: str) -> None:
        command = [sys.executable, "-m", "compactbio", "serve", str(model), "--port", "0", "--runtime", "torch-fp32"]
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.log = ""
        for line in self.process.stdout:
            self.log += line
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(self.log)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str):
        """(status, body, headers) of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content, response.headers

    def annotate(self, value: object, **headers: str):
        """(status, JSON) of POST /v1/annotate."""
        status, content, _ = self.ask("POST", "/v1/annotate", json.dumps(value).encode(), **headers)
        return status, json.loads(content)

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
