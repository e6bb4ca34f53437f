"""Processes for tests, forked from one that has imported the libraries: real ones, without the seconds of imports.

`run` and `Popen` take what those of `subprocess` take for `[sys.executable, "-m", MODULE, ...]` and
`[sys.executable, "-c", CODE, ...]`. Variables that libraries read when they are imported (HF_*) and the limits of
memory are those of the first process: where a test is about them, take `subprocess`.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

IMPORTED = (
    "compactbio.annotate.server", "compactbio.cli", "compactbio.deploy.export", "compactbio.training.finetuning",
    "compactbio.training.pretraining", "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert", "transformers.models.mobilebert.modeling_mobilebert",
)  # fmt: skip
PIPE = subprocess.PIPE


class Popen(subprocess.Popen):
    """As `subprocess.Popen`; the child is one of the first process, which tells how it ended."""

    def _execute_child(self, args, *given, **named) -> None:  # type: ignore[no-untyped-def]
        names = ("executable", "preexec_fn", "close_fds", "pass_fds", "cwd", "env", "startupinfo", "creationflags",
                 "shell", "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")  # fmt: skip
        values = dict(zip(names, given, strict=False)) | named
        assert args[0] == sys.executable and values["preexec_fn"] is None and not values["shell"], args
        streams = [values["p2cread"], values["c2pwrite"], values["errwrite"]]
        ours, theirs = socket.socketpair()
        request = json.dumps([args[1:], str(values["cwd"] or Path.cwd()), dict(values["env"] or os.environ)]).encode()
        inherited = [stream if stream != -1 else number for number, stream in enumerate(streams)]
        socket.send_fds(_first(), [len(request).to_bytes(8, "big")], [theirs.fileno(), *inherited])
        theirs.close()
        ours.sendall(request)
        self._told = ours
        self.pid = int(ours.makefile("r").readline())
        self._child_created = True
        for stream in {*streams, getattr(self, "_devnull", -1)} - {-1}:
            os.close(stream)

    def _internal_poll(self, _deadstate: Any = None) -> int | None:  # type: ignore[override]
        if self.returncode is None:
            with suppress(BlockingIOError):
                self._told.setblocking(False)
                self._ended()
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        self._told.setblocking(True)
        if self.returncode is None:
            self._ended()
        return self.pid, 0

    def _handle_exitstatus(self, status: int, *_: Any) -> None:
        """The status is told, not waited for."""

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self._ended()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return self.returncode

    def _ended(self) -> None:
        told = self._told.recv(16)
        self.returncode = os.waitstatus_to_exitcode(int(told)) if told else -signal.SIGKILL


def run(command: list[str], *, input: Any = None, capture_output: bool = False, check: bool = False, **named: Any):
    """As `subprocess.run`."""
    if input is not None:
        named["stdin"] = subprocess.PIPE
    if capture_output:
        named |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **named) as process:
        out, err = process.communicate(input)
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def check_output(command: list[str], *, start_new_session: bool = False) -> bytes:
    """As `subprocess.check_output`; the process is not of this one's session anyway."""
    return run(command, stdout=subprocess.PIPE, check=True).stdout


@cache
def _first() -> socket.socket:
    """The process that has imported everything; it ends with this one, whose end of the socket is then closed."""
    ours, theirs = socket.socketpair()
    subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    return ours


def _serve(asked: socket.socket) -> list[str]:
    """Fork a process for each request; returns, in such a process, its arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal: pytest decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for the processes are not waited for
    while True:
        size, streams, _, _ = socket.recv_fds(asked, 8, 4)
        if not size:
            os._exit(0)
        if os.fork() == 0:
            break
        for stream in streams:
            os.close(stream)
    asked.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    teller = socket.socket(fileno=streams[0])
    request = teller.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    pid = os.fork()
    if pid:
        with suppress(OSError):
            teller.sendall(f"{pid}\n".encode())
        for number in range(3):
            os.close(number)
        for stream in streams[1:]:
            os.close(stream)
        status = os.waitpid(pid, 0)[1]
        with suppress(OSError):
            teller.sendall(str(status).encode())
        os._exit(0)
    teller.close()
    for number, stream in enumerate(streams[1:]):
        os.dup2(stream, number)
    os.closerange(3, 256)
    arguments, folder, environment = json.loads(request)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path in reversed(environment.get("PYTHONPATH", "").split(os.pathsep)):
        if path:
            sys.path.insert(0, path)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False, errors=errors)  # noqa: SIM115
        for number, mode, errors in ((0, "r", None), (1, "w", None), (2, "w", "backslashreplace"))
    )
    sys.stderr.reconfigure(line_buffering=True)
    return list(arguments)


def _run(kind: str, what: str, *rest: str) -> None:
    """Run a module or code as Python does, and end without the second that it takes to take all modules down."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [what if kind == "-m" else kind, *rest]
    status = 0
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, vars(main))  # noqa: S102
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        traceback.print_exc()
        status = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    asked = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    _run(*_serve(asked))
