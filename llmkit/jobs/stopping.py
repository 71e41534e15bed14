"""When a run has to end early: a signal, or the time allowed.

The first SIGINT or SIGTERM lets the batch at hand finish, the second ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

from llmkit.errors import LlmkitError, StoppedError, TimeUpError

T = TypeVar("T")


class TooLongError(Exception):
    """A batch that takes too much of the time allowed to be answered as a whole."""


class Stopping:
    """Asked before each batch. Installs its signal handlers as a context manager."""

    def __init__(self, max_time: float | None, report: Callable[[str], None], *, resumable: bool = True) -> None:
        self._resumable = resumable
        begun = time.monotonic()
        self._half = None if max_time is None else begun + max_time / 2
        self._deadline = None if max_time is None else begun + max_time
        self._report = report
        self._signal: int | None = None
        self._handed_out = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def due(self) -> LlmkitError | None:
        """Why the run has to end, None when it may continue."""
        kept = "; finished work is kept" if self._resumable else ""
        hint = "run the same command again to continue" if self._resumable else "a run with `output` FILE can be continued"
        if self._signal is not None:
            return StoppedError(self._signal, f"stopped by {signal.Signals(self._signal).name}{kept}", hint=hint)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return TimeUpError(f"stopped by `max_time`{kept}", hint=hint)
        return None

    @property
    def limited(self) -> bool:
        """Whether there is a limit of time."""
        return self._deadline is not None

    def time(self) -> None:
        """Raises TimeUpError when the time allowed has passed. A signal waits for the end of the batch."""
        if self._signal is None:
            self.check()

    def half_time(self) -> None:
        """Raises TooLongError when half of the time allowed has passed."""
        if self._half is not None and time.monotonic() >= self._half:
            raise TooLongError

    def check(self) -> None:
        """Raises StoppedError or TimeUpError when the run has to end. What is done must be kept by then."""
        if (reason := self.due()) is not None:
            raise reason

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a check before each. However short the time, the first is handed out, so that each run gets on."""
        for item in items:
            if self._handed_out or self._signal is not None:
                self.check()
            self._handed_out = True
            yield item

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = number
        self._report("finishing this batch; press Ctrl-C again to stop now")
