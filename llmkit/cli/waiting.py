"""Says that standard input is being read, where nothing arrives: the program before the pipe is slow, or waits for somebody, too.

Knows file descriptors; not what is read.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds without input after which it is said.
_PATIENCE = 1.0


@contextmanager
def while_reading(say: Callable[[str], None], *, all_of_it: bool = False) -> Iterator[None]:
    """Calls `say` once if standard input has brought nothing new when the patience is over.

    all_of_it: also if it has brought something, as nothing is done before its end.
    """

    def look() -> None:
        if all_of_it or not _has_input():
            say("reading standard input")

    waiting = threading.Timer(_PATIENCE, look)
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def _has_input() -> bool:
    """Whether standard input has bytes that nobody has read yet, or has ended."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    try:
        poll.register(sys.stdin.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return True
