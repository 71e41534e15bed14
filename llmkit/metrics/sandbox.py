"""Runs one program and its test apart from the process that asks. Started as a script of its own: it imports nothing of llmkit.

    python -I sandbox.py  < {"program": ..., "test": ..., "seconds": 10, "memory": 1073741824}

Two processes: this one keeps watch, a forked one runs the program. The program runs as a module named `program`, then the test in the
same names. Only when the test has run to its end is a secret sent back, so whatever ends early, by exit() too, has not passed. The
watching process ends the program at its time limit, when the process that asked is gone, and with all that the program started.

`probe()` shows what each system can enforce; none of it is a guarantee against hostile code.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import sys
import time
from typing import Any

#: Numbers of Linux, for which Python has no names everywhere: CLONE_NEW..., PR_SET_CHILD_SUBREAPER, MS_PRIVATE and MS_REC.
_NEW_NAMESPACES = {"network": 0x40000000, "processes": 0x20000000}
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_SUBREAPER = 36
_MS_PRIVATE, _MS_REC = 1 << 18, 1 << 14
_NOBODY = 65534
#: Processes that a program may have at once; bytes and names in its folder.
_PROCESSES, _FOLDER, _NAMES = 64, 1 << 28, 10_000
#: How often it is looked at what all processes of a program take together, where nothing limits it.
_LOOK_SECONDS = 0.1


def main() -> None:
    """Runs the program on standard input under limits; the last line on stdout says how it ended."""
    job = json.loads(sys.stdin.buffer.readline())
    if "probe" in job:
        answer: dict[str, Any] = probe()
    elif os.name == "posix":
        answer = {"passed": watch(job)}
    else:
        answer = {"passed": run(job["program"], job["test"])}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)


def run(program: str, test: str) -> bool:
    """Runs the program, then its test; whether both came to their end. `__name__` is 'program', so a main block is not run."""
    import types

    module = types.ModuleType("program")
    sys.modules["program"] = module
    sys.argv = ["program"]
    try:
        exec(compile(program, "program.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what was asked for
        exec(compile(test, "test.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except BaseException:  # SystemExit and KeyboardInterrupt of the program, too
        return False
    return True


def watch(job: dict[str, Any]) -> bool:
    """Runs the job in a process of its own; whether it passed within its limits."""
    enforced = leave()
    secret = secrets.token_bytes(16)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(job, secret, writing, enforced)
    os.close(writing)
    try:
        return _read(reading, len(secret), time.monotonic() + float(job["seconds"]), int(job["memory"])) == secret
    finally:
        _end(child)


def _child(job: dict[str, Any], secret: bytes, writing: int, enforced: set[str]) -> None:
    """In the forked process: gives up what it may not have, runs the job, and says when it passed. Does not return."""
    passed = False
    try:
        os.setsid()
        if "processes" in enforced and not _first_process():
            os._exit(1)
        _limit(job)
        own = os.getpid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        # a copy that the program forks goes on here as well, and speaks for nobody
        passed = run(job["program"], job["test"]) and os.getpid() == own
        if passed:
            os.write(writing, secret)
    finally:
        os._exit(0 if passed else 1)


def _first_process() -> bool:
    """Makes this the first process of its namespace, which only waits: when it ends, the kernel ends all others there.

    True in the process that goes on.
    """
    with contextlib.suppress(OSError):
        _mount_own_processes()
    second = os.fork()
    if second == 0:
        return True
    os.waitpid(second, 0)
    return False


def _limit(job: dict[str, Any]) -> bool:
    """Sets the limits of this process; whether it gave up a superuser's rights for those of nobody."""
    import math
    import resource

    seconds, memory, processes = math.ceil(job["seconds"]), int(job["memory"]), _own() + _PROCESSES
    for name, value in (
        ("RLIMIT_AS", memory), ("RLIMIT_CPU", seconds), ("RLIMIT_FSIZE", 1 << 24), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", processes),
    ):  # fmt: skip
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
    if os.geteuid() == 0 and _readable_by_all():
        with contextlib.suppress(OSError):
            os.chmod(".", 0o777)  # noqa: S103 - the program's own temporary folder
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            return True
    return False


def _own() -> int:
    """Processes that this user has, where the system shows it."""
    count = 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                count += name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid()
    return count


def _readable_by_all() -> bool:
    """Whether an unprivileged user could still read Python's own modules."""
    folder = os.path.dirname(os.path.abspath(os.__file__))
    while True:
        if os.stat(folder).st_mode & 0o005 != 0o005:
            return False
        if folder == os.path.dirname(folder):
            return True
        folder = os.path.dirname(folder)


def leave() -> set[str]:
    """Moves this process, and what it forks, where it sees no network and no processes but its own. Which of them it could.

    Also adopts what the program leaves behind, so that it can be ended.
    """
    if sys.platform != "linux":
        return set()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    everything = _NEW_MOUNTS | sum(_NEW_NAMESPACES.values())
    if libc.unshare(everything) == 0 or libc.unshare(_NEW_USER | everything) == 0:
        return set(_NEW_NAMESPACES)
    enforced = set()
    for name, flag in _NEW_NAMESPACES.items():
        if libc.unshare(flag) == 0 or libc.unshare(_NEW_USER | flag) == 0:
            enforced.add(name)
    return enforced


def _mount_own_processes() -> None:
    """/proc of this namespace alone: without it a program could read what other processes were started with."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/", None, _MS_PRIVATE | _MS_REC, None) or libc.mount(b"proc", b"/proc", b"proc", 0, None):
        raise OSError(ctypes.get_errno(), "mount")


def _read(reading: int, size: int, until: float, memory: int) -> bytes:
    """What the child sends, until it has ended, its time is over, it takes too much, or the process that asked is gone."""
    data = b""
    while len(data) < size and (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([reading, 0], [], [], min(left, _LOOK_SECONDS))
        if (not ready or reading in ready) and takes_too_much(memory):
            return b""
        if 0 in ready and not os.read(0, 1):
            return b""
        if reading in ready:
            piece = os.read(reading, size - len(data))
            if not piece:
                return data
            data += piece
    return data


def takes_too_much(memory: int) -> bool:
    """Whether all processes of the program together hold more than `memory`, are too many, or their folder holds too much.

    Limits of the kernel's are of each process or file alone.
    """
    own = _program_processes()
    if len(own) > 1 and (len(own) > _PROCESSES or sum(map(_memory, own)) > memory):
        return True
    names = size = 0
    folders = ["."]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                names += 1
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                if names > _NAMES or size > _FOLDER:
                    return True
    return False


def _program_processes() -> list[str]:
    """All that /proc shows, where it is that of the program's namespace; else what descends from this process."""
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    if not os.path.exists("/proc/self"):  # this process is not in that namespace
        return names
    parents: dict[str, str] = {}
    for name in names:
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parents[name] = file.read().rpartition(b")")[2].split()[1].decode()
    out: list[str] = []
    generation = {str(os.getpid())}
    while generation:
        generation = {name for name, parent in parents.items() if parent in generation}
        out += generation
    return out


def _memory(process: str) -> int:
    """Bytes that a process holds; what it shares with others is counted once for all of them, where that is told."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/smaps_rollup", "rb") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    with contextlib.suppress(OSError), open(f"/proc/{process}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _end(child: int) -> None:
    """Ends the child and all that it started, also in sessions of their own, until nothing is left."""
    until = time.monotonic() + 5
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for orphan in _children():
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(orphan, signal.SIGKILL)
                time.sleep(0.001)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """The processes that this one would have to wait for; orphans are adopted (see `leave`)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def probe() -> dict[str, Any]:
    """What is enforced here: 'enforced', a list of 'network', 'processes', 'environment' and 'user'.

    'environment': a program can't read what the process that asked was started with. 'user': it runs as an unprivileged user.
    """
    asking = os.getppid()
    enforced = leave()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        flags = b""
        try:
            if "processes" in enforced and not _first_process():
                os._exit(0)
            # by what was done: in a user namespace of its own every user looks like nobody
            flags += b"u" if _limit({"seconds": 5, "memory": 1 << 30}) else b""
            try:
                with open(f"/proc/{asking}/environ", "rb") as file:
                    file.read(1)
            except OSError:
                flags += b"e"
        finally:
            os.write(writing, flags + b".")
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        flags = file.read()
    os.waitpid(child, 0)
    names = enforced | ({"environment"} if b"e" in flags else set()) | ({"user"} if b"u" in flags else set())
    return {"enforced": sorted(names)}


if __name__ == "__main__":
    main()
