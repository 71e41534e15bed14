"""Standard streams that are closed, full, or not read any more: the run ends with a code of the contract, without a traceback.

Knows file descriptors; not what is written.
"""

from __future__ import annotations

import errno
import os
import sys

from llmkit.errors import LlmkitError, UnavailableError

#: The shell's convention for a process ended by SIGPIPE.
SIGPIPE_EXIT = 141
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def set_up() -> None:
    """Makes all three streams usable, in UTF-8.

    One that was closed when the process began must not leave its number to the next file that is opened: input is empty then,
    messages go nowhere, and writing data fails as into a pipe that nobody reads.
    """
    if sys.stdin is None:
        sys.stdin = open(_nowhere(0, os.O_RDONLY), encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(_unread(1), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(_nowhere(2, os.O_WRONLY), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace" if stream is sys.stderr else "strict")


def finish() -> None:
    """Writes out what stdout still holds, so that the interpreter's own last attempt can't fail. Raises OSError."""
    sys.stdout.flush()


def silence() -> None:
    """Points stdout at nothing: what it still holds can't be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error(exc: OSError) -> LlmkitError | None:
    """What a failed write means; None for any other error."""
    if exc.errno in _FULL:
        return UnavailableError(f"cannot write: {exc.strerror}", hint="make room, or write to another place")
    return None


def _nowhere(number: int, flags: int) -> int:
    handle = os.open(os.devnull, flags)
    return _moved(handle, number)


def _unread(number: int) -> int:
    reading, writing = os.pipe()
    handle = _moved(writing, number)
    if reading != number:
        os.close(reading)
    return handle


def _moved(handle: int, number: int) -> int:
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)
    return number
