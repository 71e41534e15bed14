"""Every error that a user can cause or meet, as a tree.

    LlmkitError                  1   a bug, or an error of no other kind
    ├── UsageError               2   an invalid option or argument
    │   └── EngineLimitError     2   ... what an engine can't do, and another one may
    │       └── EngineUnavailableError  5  ... for want of memory, or of room on the disk
    ├── InputError               2   a file or row that can't be used
    │   └── RowError             2   ... one row of it; inside a job it becomes a row with "error"
    ├── OutputError              2   an output that can't be written to, or belongs to another run
    ├── JobChangedError          2   a resume of something else than what was begun
    ├── RowsFailedError          3   more rows failed than --max-errors allows
    ├── GateError                4   a quality gate failed, or a rerun gave a different result
    ├── TrainingError            6   a training run that was stopped by its watch (NaN, divergence), resumable
    ├── UnavailableError         5   the environment: no such model, no network, no device, missing extra
    │   ├── ModelError           5   ... a model whose files don't fit together
    │   └── OutOfMemoryError     5   ... does not fit in memory
    ├── StoppedError       130/143   ended by a signal, resumable
    └── TimeUpError            124   ended by --max-time or --max-tokens-total, resumable

A message says what is wrong and where; the hint says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

#: Characters of a path that a message shows whole.
_WHOLE_PATH = 1000


class LlmkitError(Exception):
    """Any error that llmkit reports in one to three lines."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LlmkitError):
    """An invalid option or argument."""

    exit_code = 2


class EngineLimitError(UsageError):
    """A model or a way of decoding that an engine can't run, and another one may."""


class EngineUnavailableError(EngineLimitError):
    """An engine that has no memory or no room on the disk for a model, which another one may run."""

    exit_code = 5


class InputError(LlmkitError):
    """A file that can't be used, with the place in it where that is known."""

    exit_code = 2

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None, hint: str | None = None) -> None:
        name = _shown(path)
        place = "" if path is None else f"{name}: " if line is None else f"{name}, line {line}: "
        super().__init__(place + message, hint=hint)


class RowError(InputError):
    """One row that can't be used. A job writes it into the row and continues."""

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, path=path, line=line, hint=hint)
        self.reason = message


class OutputError(LlmkitError):
    """An output that can't be written to, or that belongs to another run."""

    exit_code = 2


class JobChangedError(LlmkitError):
    """The unfinished job on disk is not the one that was asked for."""

    exit_code = 2


class RowsFailedError(LlmkitError):
    """More rows failed than --max-errors allows; the others are kept."""

    exit_code = 3


class GateError(LlmkitError):
    """Quality gates failed. lines: what is said of each."""

    exit_code = 4

    def __init__(self, *lines: str, hint: str | None = None) -> None:
        super().__init__("; ".join(lines), hint=hint)
        self.lines = lines


class TrainingError(LlmkitError):
    """A training run that went wrong (its loss or gradients) and was stopped."""

    exit_code = 6


class UnavailableError(LlmkitError):
    """Something outside llmkit is missing or does not work."""

    exit_code = 5


class ModelError(UnavailableError):
    """A model folder that is incomplete, damaged or unsafe."""


class OutOfMemoryError(UnavailableError):
    """A model or a batch that does not fit in memory."""


class StoppedError(LlmkitError):
    """A run ended by SIGINT or SIGTERM, its work kept."""

    def __init__(self, signal_number: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[type[StoppedError], tuple[int, str], dict[str, object]]:
        return StoppedError, (self.exit_code - 128, self.message), self.__dict__  # one process of a training run tells the others


class TimeUpError(LlmkitError):
    """A run ended by --max-time or --max-tokens-total, its work kept."""

    exit_code = 124


def _shown(path: str | Path | None) -> str:
    text = str(path)
    return text if len(text) <= _WHOLE_PATH else f"{text[:100]}...{text[-100:]}"


def one_line(problem: object, most: int = 300) -> str:
    """An exception (or a text) as one line of at most `most` characters; for an exception without a text the name of its class."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text if len(text) <= most else text[:most] + "..."


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number before its noun: '1 row', '1,024 rows'. many: the noun of several, where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def did_you_mean(word: str, names: Iterable[str], *, default: str | None = None, cutoff: float = 0.6) -> str | None:
    """A hint with the one of `names` that is closest to `word`, else `default`. cutoff: likeness from 0 to 1 that it needs."""
    import difflib

    close = difflib.get_close_matches(word, list(names), n=1, cutoff=cutoff)
    return f"did you mean '{close[0]}'?" if close else default
