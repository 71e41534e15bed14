"""The command line in processes that are forked with the libraries of torch, transformers and training imported.

Each is at its work at once, instead of after five seconds of importing. For tests of what a command does in a process of its own, on
torch; what a process does while it starts is tested on one that starts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, reduction
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "forking", "preloaded"])
_TESTS = str(Path(__file__).parent)

#: What stands on a PATH as `llmkit`: hands its arguments, environment and streams to `_serve`, and ends as the process that does the work.
_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode())
    server.shutdown(socket.SHUT_WR)
    code = int(server.recv(9) or 1)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class _Stream:
    """A file descriptor that is still one in the process to which it is sent."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._number),)


def _received(sent: Any) -> int:
    return int(sent.detach())


def _start_server() -> None:
    """The process that is forked, unless it runs. It takes a module that it can't find for one that nobody needs, so it is told where."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_TESTS, before)))
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _fork(
    arguments: Sequence[str],
    streams: Sequence[int],
    *,
    environment: Mapping[str, str] = os.environ,
    folder: str | None = None,
    preexec_fn: Callable[[], object] | None = None,
) -> BaseProcess:
    """A process that runs the command line. streams: its stdin, stdout and stderr; folder: where it runs."""
    work = (arguments, [_Stream(number) for number in streams], dict(environment), folder or os.getcwd(), preexec_fn)
    _start_server()
    process = _CONTEXT.Process(target=_run, args=work, daemon=True)
    process.start()
    return process


def _run(
    arguments: list[str], streams: list[int], environment: dict[str, str], folder: str, preexec_fn: Callable[[], object] | None
) -> None:
    assert "preloaded" in sys.modules, "nothing was imported before this process was forked"
    from llmkit.__main__ import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # those that the interpreter made are of other files
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if preexec_fn is not None:
        preexec_fn()
    sys.argv = ["llmkit", *arguments]
    main()


class Forked:
    """A forked command line; it has what the tests use of `subprocess.Popen`. preexec_fn: one that can be pickled."""

    def __init__(self, *arguments: object, stdin: bytes = b"", preexec_fn: Callable[[], object] | None = None) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115  # as long as this object
        self._files[0].write(stdin)
        self._files[0].seek(0)
        self._process = _fork(list(map(str, arguments)), [file.fileno() for file in self._files], preexec_fn=preexec_fn)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, sig: int, /) -> None:
        os.kill(self.pid, sig)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("llmkit", timeout or 0)
        return self._process.exitcode

    def communicate(self, *, timeout: float | None = None) -> tuple[bytes, bytes]:
        self.wait(timeout)
        for file in self._files[1:]:
            file.seek(0)
        return self._files[1].read(), self._files[2].read()


@contextmanager
def forking_llmkit(folder: Path) -> Iterator[None]:
    """Puts an `llmkit` into the folder, for the PATH of scripts, whose processes are forked until the end of the block."""
    address = str(Path(tempfile.mkdtemp(prefix="llmkit-")) / "socket")  # a folder of tests may have a path that is too long for one
    script = folder / "llmkit"
    script.write_text(_CLIENT.format(python=sys.executable, address=address))
    script.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        threading.Thread(target=_listen, args=(listener,), daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def _listen(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # it was shut down
            return
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    """Runs one command of a client, and tells it the exit code; a signal's is negative."""
    with connection:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile("rb") as sent:
            arguments, environment, folder = json.load(sent)
        process = _fork(arguments, streams, environment=environment, folder=folder)
        for stream in streams:
            os.close(stream)
        process.join()
        connection.sendall(str(process.exitcode if process.exitcode is not None else signal.SIGKILL).encode())
