"""What a run reports to its caller: notices, warnings and progress. Knows no terminal; the command line's Console is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmkit.rows import Total


class Progress(Protocol):
    """Told how many rows are done."""

    def expect(self, total: Total | None) -> None:
        """How many rows there will be, as far as is known by now."""
        ...

    def skip(self, rows: int) -> None:
        """Rows that nobody has to be asked about: of an earlier run, or known."""
        ...

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Rows that were answered."""
        ...

    def beside(self, text: str) -> None:
        """What is shown beside the numbers, as who answers; in the place of what was."""
        ...


class Reporter(Protocol):
    """Where a run's messages go."""

    def notice(self, message: str) -> None:
        """A line that the user should see."""
        ...

    def detail(self, message: str) -> None:
        """A line for users who asked for details."""
        ...

    def warn(self, message: str) -> None:
        """A line about what may go wrong, or has gone otherwise than asked for."""
        ...

    def progress(self, what: str, file_name: str = "") -> AbstractContextManager[Progress]:
        """Progress of rows. what: what is counted (rows, segments); file_name: of what they are read from."""
        ...

    def phase(self, text: str) -> AbstractContextManager[Callable[[str], None]]:
        """What goes on and can't be counted, until the end of the block; called with what goes on next."""
        ...

    def steps(self, total: int, done: int = 0) -> AbstractContextManager[Callable[[int, str], None]]:
        """Progress of a known number of steps: called with the finished step and a text to show beside it."""
        ...


class Silent:
    """A report that says nothing: for programs that look at results only."""

    def notice(self, message: str) -> None:
        """Drops the line."""

    def detail(self, message: str) -> None:
        """Drops the line."""

    def warn(self, message: str) -> None:
        """Drops the line."""

    @contextmanager
    def progress(self, what: str, file_name: str = "") -> Iterator[Progress]:
        """As `Reporter.progress`, shown to nobody."""
        yield Uncounted()

    @contextmanager
    def phase(self, text: str) -> Iterator[Callable[[str], None]]:
        """As `Reporter.phase`, shown to nobody."""
        yield lambda following: None

    @contextmanager
    def steps(self, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """As `Reporter.steps`, shown to nobody."""
        yield lambda step, beside: None


class Uncounted:
    """Progress that nobody looks at."""

    def expect(self, total: Total | None) -> None:
        """Drops the number."""

    def skip(self, rows: int) -> None:
        """Drops the number."""

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Drops the numbers."""

    def beside(self, text: str) -> None:
        """Drops the text."""
