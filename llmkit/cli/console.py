"""What people see: notices, progress and tables on stderr; stdout carries data and nothing else.

Knows terminals; not models, rows or jobs.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from llmkit.cli.progress import live, live_steps, plain, plain_steps, spinner
from llmkit.errors import GateError, LlmkitError, UnavailableError
from llmkit.jobs.reporter import Progress, Uncounted

# C0 and C1 controls but newline and tab, the bidirectional overrides and isolates, and line separators: shown as escapes.
_VISIBLE = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in "\n\t"}
_VISIBLE |= {c: f"\\u{c:04x}" for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x2028, 0x2029, 0x061C)}


#: Lines of Markdown that are no paragraph's: of tables, headings, quotations, code and lists.
_NO_PROSE = re.compile(r"[|#>`~*+\s-]|\d+[.)]\s")
#: Columns of a terminal that a column of texts keeps in a table, however narrow the terminal is.
_NARROWEST = 8
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


def _is_drawn() -> bool:
    """Whether standard error is a terminal that lines can be drawn on anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _is_piped() -> bool:
    """Whether standard output goes to another program, which may write on the terminal at any moment (`| head`, `| jq`)."""
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return False


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
    def progress(self, what: str, file_name: str = "") -> Iterator[Progress]:
        """A live bar on a terminal, else a plain line now and then. what: what is counted; file_name: of what it is read from."""
        if self.quiet:
            yield Uncounted()
        elif _is_drawn() and not _is_piped():
            with live(what, visible(file_name)) as shown:
                yield shown
        else:
            yield plain(what, _say)

    @contextmanager
    def phase(self, text: str) -> Iterator[Callable[[str], None]]:
        """A spinner on a terminal, while something goes on that can't be counted; called with what goes on next."""
        if self.quiet or not _is_drawn():
            yield lambda _: None
            return
        with spinner(visible(text)) as turning:
            yield lambda following: turning(visible(following))

    @contextmanager
    def steps(self, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """Progress of a known number of steps: called with the finished step and a text to show beside it."""
        if self.quiet:
            yield lambda step, beside: None
        elif _is_drawn():
            with live_steps(total, done) as shown:
                yield shown
        else:
            yield plain_steps(total, _say)


def error(exc: LlmkitError) -> None:
    """The error as one to three lines on stderr; of several failed gates a line each."""
    for line in exc.lines if isinstance(exc, GateError) and exc.lines else (exc.message,):
        _say(f"error: {_on_one_line(line)}")
    if exc.hint:
        _say(f"hint: {_on_one_line(exc.hint)}")


def _on_one_line(message: str) -> str:
    """A message whose names and values may hold line ends, or be long."""
    message = message if len(message) <= _LONGEST else message[:_LONGEST] + "..."
    return message.replace("\r", "\\r").replace("\n", "\\n")


def traceback(exc: BaseException) -> None:
    """Where an error came from, for --debug."""
    from traceback import format_exception

    _say("".join(format_exception(exc)).rstrip())


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), whole: tuple[str, str] | None = None
) -> None:
    """A table on stdout: the answer of commands that list things. right: columns of numbers.

    whole: two columns, names and texts that are copied; where the table does not fit the terminal, each text stands below it, on
    one line, which is broken only behind a `|` where the terminal is narrower. On a terminal control characters are made visible;
    off it each row is one line, however long.
    """
    from rich.console import Console as RichConsole
    from rich.table import Table

    on_terminal = sys.stdout.isatty()
    width = RichConsole(file=sys.stdout).width if on_terminal else 100_000
    lines = [[visible(cell) if on_terminal else cell for cell in row] for row in rows]
    below: list[tuple[str, str]] = []
    if whole is not None and _width_of(_widths(columns, lines)) > width:
        name, text = map(columns.index, whole)
        below = list(dict.fromkeys((line[name], line[text]) for line in lines))
        columns, lines = [c for c in columns if c != whole[1]], [line[:text] + line[text + 1 :] for line in lines]
    unbroken = [place == 0 or column in right for place, column in enumerate(columns)]  # names and numbers, where there is room
    least = [size if kept else min(size, _NARROWEST) for size, kept in zip(_widths(columns, lines), unbroken, strict=True)]
    gap = 2 if _width_of(least) <= width else 1
    fits = _width_of(least, gap) <= width
    drawn = Table(box=None, pad_edge=False, collapse_padding=gap == 1)
    for column, kept in zip(columns, unbroken, strict=True):
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=kept and fits)
    for line in lines:
        drawn.add_row(*line)
    RichConsole(file=sys.stdout, width=width, markup=False, highlight=False).print(drawn)
    if below:
        write("\n" + "".join(_below(below, width)))


def _below(texts: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Names and texts, a line each; where that is too long for one of them, each text in lines of its own that end behind a `|`."""
    longest = max(len(name) for name, _ in texts)
    beside = all(longest + 2 + len(text) <= width for _, text in texts)
    for name, text in texts:
        if beside:
            yield f"{name:{longest}}  {text}\n"
            continue
        line = "  "
        yield f"{name}\n"
        for part in re.findall(r"[^|]+\|?|\|", text):
            if len(line) + len(part) > width and line.strip():
                yield f"{line}\n"
                line = "  "
            line += part
        yield f"{line}\n"


def _widths(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[int]:
    """Columns of a terminal that each column of a table takes when none of its cells is folded."""
    from rich.cells import cell_len

    return [max(map(cell_len, cells)) for cells in zip(columns, *lines, strict=True)]


def _width_of(widths: Sequence[int], gap: int = 2) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def write_prose(text: str) -> None:
    """Markdown on stdout. On a terminal that its lines do not fit, paragraphs are broken at words; code, tables and lists stay."""
    if sys.stdout.isatty():
        width, fenced = shutil.get_terminal_size().columns, False
        blocks = []
        for block in re.split(r"(\n\s*\n)", text):
            prose = bool(block.strip()) and not fenced and not any(_NO_PROSE.match(line) for line in block.splitlines())
            blocks.append(textwrap.fill(block, width, break_long_words=False, break_on_hyphens=False) if prose else block)
            fenced ^= block.count("```") % 2 == 1
        text = "".join(blocks)
    write(text)


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


def without_credentials(text: str) -> str:
    """`text` without user and password in URLs."""
    return _CREDENTIALS.sub("//***@", text)


def _say(message: str) -> None:
    message = without_credentials(with_options(message))
    try:
        # one write: the reader of a pipe may write on the same terminal
        print(f"{visible(message)}\n", end="", file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads the notices, or there is no room for them; the data is what counts.
        _silence_stderr()


def _silence_stderr() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
