"""What people see: notices, progress and tables on stderr; stdout carries data and nothing else.

Knows terminals; not models, rows or jobs.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from llmkit.errors import LlmkitError, UnavailableError
from llmkit.jobs.report import Progress

#: Off a terminal, progress is at most one plain line in this many seconds.
PLAIN_PROGRESS_SECONDS = 30.0

# C0 and C1 controls but newline and tab, the bidirectional overrides and isolates, and line separators: shown as escapes.
_VISIBLE = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in "\n\t"}
_VISIBLE |= {c: f"\\u{c:04x}" for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x2028, 0x2029, 0x061C)}


#: Characters of a message: a value that it shows may be longer than anyone reads.
_LONGEST = 2000
#: User and password in a URL.
_CREDENTIALS = re.compile(r"//[^\s/@'\"]{1,500}@(?=[\w\[])")


def visible(text: str) -> str:
    """`text` with terminal control characters written as escapes. Works on any piece of a text, one character at a time."""
    return text.translate(_VISIBLE)


def is_colored() -> bool:
    """Whether standard output is a terminal that shows colors and a person has not switched them off (https://no-color.org)."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class ClosedPipeError(Exception):
    """Nobody reads stdout any more. Not an OSError: click would end the process with 1 for that."""


@dataclass(frozen=True)
class Console:
    """Writes for people. `quiet` leaves errors and warnings only; `verbose` adds details."""

    quiet: bool = False
    verbose: bool = False

    def notice(self, message: str) -> None:
        """One line that a person may want to know; not under `--quiet`."""
        if not self.quiet:
            _say(message)

    def detail(self, message: str) -> None:
        """One line under `--verbose`."""
        if self.verbose and not self.quiet:
            _say(message)

    def warn(self, message: str, *, hint: str | None = None) -> None:
        """One line that is shown even under `--quiet`, with what to do about it on a second."""
        _say(f"warning: {message}")
        if hint:
            _say(f"hint: {hint}")

    @contextmanager
    def progress(self, what: str, done: int = 0) -> Iterator[Progress]:
        """A live bar on a terminal, else a plain line now and then."""
        if self.quiet:
            yield _Silent()
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with _live(what, done) as live:
                yield live
        else:
            yield _Plain(what, done)

    @contextmanager
    def steps(self, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """Progress of a known number of steps: called with the finished step and a text to show beside it."""
        if self.quiet:
            yield lambda step, beside: None
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with _live_steps(total, done) as live:
                yield live
        else:
            yield _plain_steps(total)


def error(exc: LlmkitError) -> None:
    """The error as one to three lines on stderr."""
    _say(f"error: {_on_one_line(exc.message)}")
    if exc.hint:
        _say(f"hint: {_on_one_line(exc.hint)}")


def _on_one_line(message: str) -> str:
    """A message whose names and values may hold line ends, or be long."""
    message = message if len(message) <= _LONGEST else message[:_LONGEST] + "..."
    return message.replace("\r", "\\r").replace("\n", "\\n")


def raw_error(text: str) -> None:
    """A text on stderr as it is: a help page."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _silence_stderr()


def traceback(exc: BaseException) -> None:
    """Where an error came from, for --debug."""
    from traceback import format_exception

    _say("".join(format_exception(exc)).rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout: the answer of commands that list things. right: columns of numbers.

    On a terminal control characters are made visible; off it each row is one line, however long.
    """
    from rich.console import Console as RichConsole
    from rich.table import Table

    on_terminal = sys.stdout.isatty()
    drawn = Table(box=None, pad_edge=False)
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(visible(cell) if on_terminal else cell for cell in row))
    RichConsole(file=sys.stdout, width=None if on_terminal else 100_000, markup=False, highlight=False).print(drawn)


def write(text: str, stream: IO[str] | None = None) -> None:
    """Data on stdout, flushed; control characters made visible on a terminal only.

    Raises ClosedPipeError when nobody reads any more, UnavailableError when the device behind stdout is full.
    """
    out = stream or sys.stdout
    text = visible(text) if out.isatty() else text
    try:
        out.write(text.encode("utf-8", "replace").decode("utf-8") if _has_surrogates(text) else text)
        out.flush()
    except BrokenPipeError as exc:
        raise ClosedPipeError from exc
    except OSError as exc:
        raise UnavailableError(f"cannot write to standard output: {exc.strerror}") from exc


def write_bytes(data: bytes) -> None:
    """A file's bytes on stdout, as `write` does it; as text on a terminal, where bytes that are no UTF-8 are replaced."""
    out = getattr(sys.stdout, "buffer", None)
    if out is None or sys.stdout.isatty():
        return write(data.decode("utf-8", "replace"))
    try:
        sys.stdout.flush()
        out.write(data)
        out.flush()
    except BrokenPipeError as exc:
        raise ClosedPipeError from exc
    except OSError as exc:
        raise UnavailableError(f"cannot write to standard output: {exc.strerror}") from exc
    return None


def _has_surrogates(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def with_options(message: str) -> str:
    """`message` with each setting that it names in backticks, as the library does, as the option: `max_errors` is --max-errors."""
    return re.sub(r"`([a-z][a-z0-9_]*)`", lambda match: "--" + match[1].replace("_", "-"), message)


def _say(message: str) -> None:
    message = with_options(message)
    message = _CREDENTIALS.sub("//***@", message)
    try:
        print(visible(message) if sys.stderr.isatty() else message, file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads the notices, or there is no room for them; the data is what counts.
        _silence_stderr()


def _silence_stderr() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class _Silent:
    def advance(self, rows: int, tokens: int = 0) -> None:
        pass


class _Plain:
    def __init__(self, what: str, done: int) -> None:
        self.what, self.rows, self.tokens = what, done, 0
        self.started = self.told = time.monotonic()

    def advance(self, rows: int, tokens: int = 0) -> None:
        self.rows += rows
        self.tokens += tokens
        now = time.monotonic()
        if now - self.told >= PLAIN_PROGRESS_SECONDS:
            self.told = now
            _say(f"{self.what}: {self.rows:,} rows, {self.tokens / (now - self.started):,.0f} tokens/s")


@contextmanager
def _live(what: str, done: int) -> Iterator[Progress]:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as RichProgress
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} {task.description}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None, completed=done, rate="")
        started = time.monotonic()

        class Live:
            tokens = 0

            def advance(self, rows: int, tokens: int = 0) -> None:
                self.tokens += tokens
                rate = self.tokens / max(time.monotonic() - started, 1e-9)
                bars.update(task, advance=rows, rate=f"{rate:,.0f} tokens/s" if self.tokens else "")

        yield Live()


def _plain_steps(total: int) -> Callable[[int, str], None]:
    told = time.monotonic()

    def tell(step: int, beside: str) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= PLAIN_PROGRESS_SECONDS:
            told = now
            _say(f"step {step:,} of {total:,}: {beside}")

    return tell


@contextmanager
def _live_steps(total: int, done: int) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[beside]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bars:
        task = bars.add_task("steps", total=total, completed=done, beside="")
        yield lambda step, beside: bars.update(task, completed=step, beside=beside)
