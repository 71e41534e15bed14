"""How far a run is: a live line on a terminal, else a plain line now and then; a spinner while nothing can be counted.

Knows numbers and seconds; not rows or models.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from llmkit.errors import counted
from llmkit.jobs.reporter import Progress

if TYPE_CHECKING:
    from llmkit.rows import Total

#: Off a terminal, progress is at most one plain line in this many seconds.
PLAIN_PROGRESS_SECONDS = 30.0
#: Seconds that a phase may take before it is shown: what takes no time needs no word.
_PATIENCE = 0.4
Say = Callable[[str], None]


@dataclass
class Pace:
    """How far a run is, how fast, and how long it will still take: at the mean pace of the rows that this run has answered.

    what: what is counted. seconds: the time since the run began is handed to what needs it. done: rows that are done, those of
    an earlier run among them; answered and tokens: of this run. beside: what is said beside the numbers.
    """

    what: str
    done: int = 0
    answered: int = 0
    tokens: int = 0
    total: Total | None = None
    beside: str = ""

    def count(self) -> str:
        """'120 of 2,400 rows (5%)', with ~ before a total that is an estimate; '120 rows' without one."""
        one = self.what.removesuffix("s")
        if self.total is None or self.total.rows < self.done:
            return counted(self.done, one, self.what)
        share = 100 * self.done / self.total.rows if self.total.rows else 100
        return f"{self.done:,} of {'' if self.total.exact else '~'}{counted(self.total.rows, one, self.what)} ({int(share)}%)"

    def rate(self, seconds: float) -> str:
        """Tokens per second, or rows where no tokens are counted; empty before there are any."""
        if not self.answered or seconds <= 0:
            return ""
        return f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else f"{self.answered / seconds:,.1f} {self.what}/s"

    def left(self, seconds: float) -> str:
        """'0:02:05 left'; empty where it can't be known."""
        if self.total is None or not self.answered or self.total.rows < self.done:
            return ""
        rest = seconds * (self.total.rows - self.done) / self.answered
        return f"{timedelta(seconds=round(rest))} left"

    def line(self, seconds: float) -> str:
        """All of it."""
        return ", ".join(part for part in (self.count(), self.rate(seconds), self.left(seconds), self.beside) if part)


class _Counted:
    """Keeps the pace, and hands each change to `show` with the seconds since the beginning."""

    def __init__(self, what: str, show: Callable[[Pace, float], None]) -> None:
        self.pace, self._show, self._begun = Pace(what), show, time.monotonic()

    def expect(self, total: Total | None) -> None:
        self.pace.total = total

    def skip(self, rows: int) -> None:
        self.pace.done += rows
        self._changed()

    def advance(self, rows: int, tokens: int = 0) -> None:
        self.pace.done += rows
        self.pace.answered += rows
        self.pace.tokens += tokens
        self._changed()

    def beside(self, text: str) -> None:
        self.pace.beside = text

    def _changed(self) -> None:
        self._show(self.pace, time.monotonic() - self._begun)


def plain(what: str, say: Say) -> Progress:
    """Progress as a line now and then."""
    told = 0.0

    def show(pace: Pace, seconds: float) -> None:
        nonlocal told
        if seconds - told >= PLAIN_PROGRESS_SECONDS:
            told = seconds
            say(pace.line(seconds))

    return _Counted(what, show)


@contextmanager
def live(what: str, file_name: str) -> Iterator[Progress]:
    """Progress as a bar that is drawn anew. file_name: what is read before there is anything to count."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(bar_width=10), TextColumn("{task.fields[line]}", markup=False), TimeElapsedColumn())
    with _drawn(*columns) as bars:
        task = bars.add_task(what, total=None, line=f"reading {file_name}" if file_name else "")

        def show(pace: Pace, seconds: float) -> None:
            bars.update(task, total=pace.total.rows if pace.total else None, completed=pace.done, line=pace.line(seconds))

        yield _Counted(what, show)


def plain_steps(total: int, say: Say) -> Callable[[int, str], None]:
    """Progress of a known number of steps as a line now and then."""
    told = time.monotonic()

    def tell(step: int, beside: str) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= PLAIN_PROGRESS_SECONDS:
            told = now
            say(f"step {step:,} of {total:,}: {beside}")

    return tell


@contextmanager
def live_steps(total: int, done: int) -> Iterator[Callable[[int, str], None]]:
    """Progress of a known number of steps as a bar that is drawn anew."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[beside]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with _drawn(*columns) as bars:
        task = bars.add_task("steps", total=total, completed=done, beside="")
        yield lambda step, beside: bars.update(task, completed=step, beside=beside)


@contextmanager
def spinner(text: str) -> Iterator[Say]:
    """Says that `text` is going on, while the block runs and only where that takes a moment; called with the next text."""
    shown = _Spinner(text)
    timer = threading.Timer(_PATIENCE, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield shown.update
    finally:
        timer.cancel()
        shown.stop()


class _Spinner:
    """A line that turns. The lock: it is started by a timer's thread, and stopped by the caller's."""

    def __init__(self, text: str) -> None:
        self._text, self._lock, self._ended = text, threading.Lock(), False
        self._live: Any = None

    def start(self) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live
        from rich.spinner import Spinner

        with self._lock:
            if not self._ended:
                console = RichConsole(stderr=True)
                self._live = Live(Spinner("dots"), console=console, transient=True, redirect_stdout=sys.stdout.isatty())
                self._show()
                self._live.start()

    def update(self, text: str) -> None:
        with self._lock:
            self._text = text
            if self._live is not None:
                self._show()

    def stop(self) -> None:
        with self._lock:
            self._ended = True
            if self._live is not None:
                self._live.stop()

    def _show(self) -> None:
        from rich.spinner import Spinner
        from rich.text import Text

        self._live.update(Spinner("dots", text=Text(self._text)))


def _drawn(*columns: Any) -> Any:
    """Bars on stderr. Data that goes to a pipe or a file stays there: rich would show it on the terminal in its place."""
    from rich.console import Console as RichConsole
    from rich.progress import Progress as RichProgress

    return RichProgress(*columns, console=RichConsole(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
