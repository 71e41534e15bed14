"""What a run reports to its caller: notices, warnings and progress. Knows no terminal; the command line's Console is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told how many rows are done."""

    def advance(self, rows: int, tokens: int = 0) -> None: ...


class Report(Protocol):
    """Where a run's messages go."""

    def notice(self, message: str) -> None: ...

    def detail(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def progress(self, what: str, done: int = 0) -> AbstractContextManager[Progress]: ...

    def steps(self, total: int, done: int = 0) -> AbstractContextManager[Callable[[int, str], None]]:
        """Progress of a known number of steps: called with the finished step and a text to show beside it."""
        ...


class Silent:
    """A report that says nothing: for programs that look at results only."""

    def notice(self, message: str) -> None:
        pass

    def detail(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    @contextmanager
    def progress(self, what: str, done: int = 0) -> Iterator[Progress]:
        yield _Uncounted()

    @contextmanager
    def steps(self, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        yield lambda step, beside: None


class _Uncounted:
    def advance(self, rows: int, tokens: int = 0) -> None:
        pass
