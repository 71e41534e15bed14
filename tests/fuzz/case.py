"""A case: files, a command, and what may come of it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Codes by which a run may end that nobody interrupts and no gate ends: done, bad input, failed rows, the environment.
CODES = frozenset((0, 2, 3, 5))
#: Bytes of a file up to which its content is compared.
_SMALL = 50_000_000


@dataclass(frozen=True)
class Case:
    """A run of the command line in a folder of its own.

    arguments: of llmkit. names: one of them is in the message of an error. writes: beginnings of the names that the run may
    write; everything else stays as it was. rows: how many rows the case holds. call: runs in the place of the command line and
    returns an exit code. check: what is wrong with what the run left, by its code.
    """

    arguments: tuple[str, ...]
    names: tuple[str, ...]
    writes: tuple[str, ...] = ()
    rows: int = 0
    codes: frozenset[int] = CODES
    call: Callable[[], int] | None = None
    check: Callable[[int], str | None] = field(default=lambda code: None)


def snapshot(folder: Path, writes: tuple[str, ...]) -> dict[str, object]:
    """What lies in a folder, but for what a run may write: kind and content of each file by its name."""
    out: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith(writes or ("\0",)):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                out[name] = path.read_bytes() if status.st_size <= _SMALL else status.st_size
            else:
                out[name] = os.readlink(path) if stat.S_ISLNK(status.st_mode) else stat.S_IFMT(status.st_mode)
    return out


def changes(before: dict[str, object], after: dict[str, object]) -> str | None:
    """What a run wrote or removed that it may not, in words."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            what = "was removed" if name not in after else "was written" if name not in before else "was changed"
            return f"{name} {what}"
    return None


def judged(code: int, err: str, case: Case) -> str | None:
    """What is wrong with the end of a run: its code, and what it says."""
    lines = _without_panics(err.splitlines())
    warned = [line.startswith("warning: ") for line in lines]
    said = [line for i, line in enumerate(lines) if not warned[i] and not (i and warned[i - 1] and line.startswith("hint: "))]
    if code not in case.codes:
        return f"exit {code}"
    if "Traceback (most recent call last)" in err:
        return "a traceback"
    if code in (2, 5):
        if not 1 <= len(said) <= 3 or not said[0].startswith("error: ") or any(not line.startswith("hint: ") for line in said[1:]):
            return f"exit {code} with {len(said)} lines on stderr"
        if not any(name in said[0] for name in case.names):
            return f"exit {code} with a message that names none of {', '.join(case.names)}"
        if len(err) > 4000:
            return f"a message of {len(err):,} characters"
    elif any(not line.startswith("hint: ") for line in said) and code != 4:  # a warning may have a hint
        return f"exit {code} with lines on stderr"
    return None


def _without_panics(lines: list[str]) -> list[str]:
    """The tokenizers library prints where it panicked, and can't be told not to."""
    out, inside = [], False
    for line in lines:
        inside = (inside or line.startswith("thread '")) and not line.startswith(("error: ", "warning: ", "hint: "))
        out += [] if inside or not line.strip() else [line]
    return out


def same(path: Path, other: Path) -> bool:
    """Whether two files hold the same."""
    return path.is_file() and path.stat().st_size == other.stat().st_size and path.read_bytes() == other.read_bytes()


def json_lines(path: Path) -> str | None:
    """What is wrong with a file of JSON lines, read as strictly as the standard says."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            json.loads(line, parse_constant=refuse)
        except ValueError as exc:
            return f"{path.name}, line {number}: {exc}"
    return None
