"""A Ray cluster: one of this run's own, which ends with it, or the user's, for as long as a block takes.

Knows Ray's session, its environment and its noise; not actors or batches.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import UnavailableError, UsageError, counted, one_line
from llmkit.jobs.workers import WorkerSettings
from llmkit.models.cores import available_cores
from llmkit.private_parts import available

#: Seconds for a connection to a cluster.
_REACH = 10.0
#: Of a cluster of this run's own: nothing is reported to anybody, no working folder is copied, and workers have the priority that this
#: process has, where Ray gives them a lower one: beside any other work they would hardly run.
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
#: Read when Ray is imported: what a cluster says of its workers would stand on standard output, among the answers.
_QUIET = {"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}
#: Where its logs and sockets lie: the beginning of the folder's name, which the process's number follows, and its lock.
_FOLDER, _LOCK = "llmkit-ray-", "lock"
#: Bytes of its object store; batches and answers are small, and most never get there.
_STORE = 128 << 20


@dataclass(frozen=True)
class Shares:
    """CPUs and GPUs of each worker."""

    cpus: float
    gpus: float


def library() -> Any:
    """Ray itself. Raises UnavailableError where it is not installed."""
    try:
        with _environment(_QUIET):
            import ray
            import ray.exceptions
    except ImportError as exc:
        raise UnavailableError("`workers` needs Ray", hint="pip install 'llmkit[ray]'") from exc
    return ray


@contextmanager
def connected(ray: Any, settings: WorkerSettings, *, gpus: bool) -> Iterator[Shares]:
    """Connected to the cluster, or to one that is started now. Gives what each worker has of it. gpus: whether one would be used.

    Raises UnavailableError for a cluster that is not there, UsageError for GPUs that this machine does not have.
    """
    local = settings.address is None
    cpus = settings.cpus
    if cpus is None:
        cpus = max(1.0, float(available_cores() // settings.count)) if local else 1.0
    handlers = _handlers()
    with contextlib.ExitStack() as stack:
        how: dict[str, Any] = {"address": settings.address}
        if settings.address is not None:
            _reach(settings.address)
        if local:
            stack.enter_context(_environment(_ENVIRONMENT))
            stack.enter_context(_token())
            stack.enter_context(_logs())
            how = {"address": "local", "num_cpus": max(1, math.ceil(cpus * settings.count)), "object_store_memory": _STORE}
            how["include_dashboard"] = False
        try:
            ray.init(**how, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as exc:  # of any kind: of the network, of versions, of addresses
            what = "no Ray cluster can be started here" if local else f"there is no Ray cluster at {settings.address}"
            hint = None if local else "HOST:6379 of its head, or auto on one of its nodes"
            raise UnavailableError(f"{what}: {one_line(exc)}", hint=hint) from exc
        finally:
            _restore(handlers)
        stack.callback(ray.shutdown)
        there = float(ray.cluster_resources().get("GPU", 0))
        each = float(gpus and there > 0) if settings.gpus is None else settings.gpus
        if local and each * settings.count > there:
            hint = f"`workers` {max(1, int(there))}, or fewer `gpus_per_worker`"
            raise UsageError(f"{counted(settings.count, 'worker')} of {each:g} GPU each: this machine has {there:g}", hint=hint)
        yield Shares(cpus, each)


def _reach(address: str) -> None:
    """Raises UnavailableError where nobody listens at an address: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # 'auto', or a name that Ray knows
    try:
        with socket.create_connection((host, int(port)), timeout=_REACH):
            pass
    except (OSError, OverflowError) as exc:
        hint = "HOST:6379 of its head, or auto on one of its nodes"
        raise UnavailableError(f"there is no Ray cluster at {address}: {one_line(exc)}", hint=hint) from exc


@contextmanager
def _token() -> Iterator[None]:
    """The token of this run's own cluster, for this run alone.

    Ray would make one in the user's home, which its other clusters would then want to see, or fail where nothing can be written there;
    and keep what it knows of the first cluster, so that a process could sign in to no other one.
    """
    try:
        with _environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}):
            _read_authentication()
            yield
    finally:
        _read_authentication()


def _read_authentication() -> None:
    """Lets Ray read from the environment again how clients sign in. Versions before 2.52 have no tokens."""
    if available("several clusters"):
        inner: Any = importlib.import_module("ray._raylet")
        inner.Config.initialize("")
        inner.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _logs() -> Iterator[None]:
    """A folder for Ray's logs and sockets that goes when they are not needed any more; the user's, where RAY_TMPDIR names one."""
    import filelock

    if "RAY_TMPDIR" in os.environ:
        yield
        return
    short = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108  (the name of a socket has 103 bytes at most)
    if short is not None:
        remove_left(Path(short))
    kept = tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-", dir=short, ignore_cleanup_errors=True)
    with kept as folder, filelock.FileLock(Path(folder, _LOCK)), _environment({"RAY_TMPDIR": folder}):
        yield


def remove_left(place: Path) -> None:
    """Removes the folders at `place` of runs that were killed: this user's, whose process is gone and whose lock is free.

    The lock tells of a process that another container has, where its number means nothing here.
    """
    import filelock

    for folder in place.glob(f"{_FOLDER}*"):
        match = re.fullmatch(rf"{_FOLDER}(\d{{1,9}})-\w+", folder.name)
        with contextlib.suppress(OSError, filelock.Timeout):
            status = os.lstat(folder)
            if match is None or not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or _runs(int(match[1])):
                continue
            with filelock.FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _handlers() -> dict[int, Any]:
    """What answers signals now: Ray puts a handler of its own in the place of one."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
