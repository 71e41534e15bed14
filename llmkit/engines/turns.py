"""Threads that take turns: one at a time runs Python, another while the model works on what the first has asked of it.

So reading, tokenizing and checking cost no time beside the model's, and nothing in this process is used by two threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Whose turn it is. A thread that never takes one is not held up."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._holder: int | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, it is this thread's turn."""
        with self._turn:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    @contextmanager
    def given(self) -> Iterator[None]:
        """Inside, it is the turn of whoever waits for one: for work that is not Python's."""
        if self._holder != threading.get_ident():
            yield
            return
        self._holder = None
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()
            self._holder = threading.get_ident()
