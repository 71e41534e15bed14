"""When a run has to end early: a signal, the time allowed, or the tokens allowed.

The first SIGINT or SIGTERM lets the batch at hand finish, one that comes later ends at once; `at_once` is for what has no batches.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from llmkit.errors import LlmkitError, StoppedError, TimeUpError, counted
from llmkit.jobs.outcome import Answer

T = TypeVar("T")

#: Seconds that answers from elsewhere may still take when a run has to end: they are paid for, and schedulers kill after 30.
PATIENCE = 10.0
#: Seconds in which another signal is the first one again, as `timeout` sends it to a process and to its group; faster than a person can
#: press a key twice. A launcher of several processes, such as torchrun, passes on what came to all of them, and takes longer.
ECHO, LAUNCHED_ECHO = 0.1, 1.0


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise StoppedError where the main thread stands. A second one ends the process."""
    before: dict[int, Any] = {}

    def on_signal(number: int, _: FrameType | None) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        raise StoppedError(number, f"stopped by {signal.Signals(number).name}")

    if threading.current_thread() is threading.main_thread():
        for stop in (signal.SIGINT, signal.SIGTERM):
            before[stop] = signal.signal(stop, on_signal)
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


class TooLongError(Exception):
    """A batch that takes too much of the time allowed to be answered as a whole."""


class Stopping:
    """Asked before each batch. Installs its signal handlers as a context manager.

    max_time: seconds from now on; max_tokens: of prompts and answers; None for no limit. report: told that a signal came. resumable:
    whether the run keeps what is done, so that messages say how to continue it. echo: seconds in which a signal is the one before again.
    clock: gives seconds.
    """

    def __init__(
        self,
        max_time: float | None,
        report: Callable[[str], None],
        *,
        max_tokens: int | None = None,
        resumable: bool = True,
        echo: float = ECHO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resumable, self._max_tokens, self._spent = resumable, max_tokens, 0
        self._echo, self._clock = echo, clock
        begun = clock()
        self._half = None if max_time is None else begun + max_time / 2
        self._deadline = None if max_time is None else begun + max_time
        self._report = report
        self._signal: int | None = None
        self._signaled = 0.0  # when the signal came
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
        if self._deadline is not None and self._clock() >= self._deadline:
            return TimeUpError(f"stopped by `max_time`{kept}", hint=hint)
        if self._all_spent:
            spent = f"stopped by `max_tokens_total`: {counted(self._spent, 'token')} of prompts and answers"
            return TimeUpError(spent + kept, hint="a higher `max_tokens_total` continues" if self._resumable else hint)
        return None

    @property
    def _all_spent(self) -> bool:
        return self._max_tokens is not None and self._spent >= self._max_tokens

    def spend(self, answers: Iterable[Answer]) -> None:
        """Counts the tokens of answers, those of an earlier run, too."""
        self._spent += sum(answer.prompt_tokens + answer.tokens for answer in answers)

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
        if self._half is not None and self._clock() >= self._half:
            raise TooLongError

    def late(self) -> None:
        """Raises StoppedError or TimeUpError when a signal came, or the time allowed had passed, `PATIENCE` seconds ago.

        May be called from any thread.
        """
        ends = [self._signaled] if self._signal is not None else []
        ends += [] if self._deadline is None else [self._deadline]
        if ends and self._clock() >= min(ends) + PATIENCE:
            self.check()

    def check(self) -> None:
        """Raises StoppedError or TimeUpError when the run has to end. What is done must be kept by then."""
        if (reason := self.due()) is not None:
            raise reason

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a check before each. However short the time, the first is handed out, so that each run gets on."""
        for item in items:
            if self._handed_out or self._signal is not None or self._all_spent:
                self.check()
            self._handed_out = True
            yield item

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            if self._clock() < self._signaled + self._echo:
                return
            os._exit(128 + number)
        self._signal, self._signaled = number, self._clock()
        self._report("finishing this batch; press Ctrl-C again to stop now")
