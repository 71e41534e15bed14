"""Which rows are answered together: planned from the input alone, so that a resumed run repeats the first one.

Knows lengths; not models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.errors import LlmkitError
from llmkit.jobs.outcome import Answer
from llmkit.rows import Row

#: Rows that are read before batches are cut; more would pad less and hold more.
WINDOW_ROWS = 1024
#: ... unless they are long: characters a window may hold.
WINDOW_CHARACTERS = 1 << 25
#: Rows a batch without --batch-size.
AUTO_ROWS = 64


@dataclass(frozen=True)
class Work:
    """A row made ready. length: tokens of its prompt; max_new_tokens: of its answer; error: why it can't be answered.

    known: an answer that there is already; it is planned as any other, and not asked for.
    """

    row: Row
    payload: Any = None
    length: int = 0
    max_new_tokens: int = 0
    error: LlmkitError | None = None
    known: Answer | None = None


def windows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Consecutive rows in windows of `WINDOW_ROWS`, or fewer when they are long."""
    window: list[Row] = []
    characters = 0
    for row in rows:
        window.append(row)
        characters += sum(len(v) for v in row.fields.values() if isinstance(v, str))
        if len(window) == WINDOW_ROWS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def batches(window: Sequence[Work], *, rows: int | None, tokens: int, width: int = 1) -> list[list[Work]]:
    """Cuts a window into batches of rows of like length, longest first, so that too large a batch shows at once.

    rows: at most this many per batch (None: 64); tokens: at most this many positions per batch, padding, answer and the `width`
    continuations of each row (beams or samples) counted: each row may take as many as the longest prompt and the longest
    answer of its batch have together. Each row is in exactly one batch; rows with an error are in none.
    """
    most = rows or AUTO_ROWS
    out: list[list[Work]] = []
    ready = sorted((w for w in window if w.error is None), key=lambda w: (-w.length - w.max_new_tokens, -w.length, w.row.index))
    length = max_new_tokens = 0
    for work in ready:
        length, max_new_tokens = max(length, work.length), max(max_new_tokens, work.max_new_tokens)
        if out and len(out[-1]) < most and (length + max_new_tokens) * (len(out[-1]) + 1) * width <= tokens:
            out[-1].append(work)
        else:
            out.append([work])
            length, max_new_tokens = work.length, work.max_new_tokens
    return out
