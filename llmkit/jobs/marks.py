"""Marks in a journal: up to where everything is done, so that a run that goes on reads neither those rows nor their answers again.

A mark tells how many windows are done, where the input and the journal go on behind them, and what they came to. It counts
only where the input begins with the same bytes as then; else everything is read, as without marks. Knows journals and counts; not tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmkit.jobs.journal import MARK, Journal, damaged
from llmkit.jobs.outcome import Tally
from llmkit.rows import Place

#: Windows from one mark to the next: as many rows are read again, at most, and twice that.
EVERY = 16
_COUNTS = ("rows", "failed", "prompt_tokens", "completion_tokens", "scored_tokens")


@dataclass(frozen=True)
class Mark:
    """Everything before window `windows` is done.

    place: of the input behind it. start: of the journal's first entry about what follows. rows_sha256: of its rows. seconds and
    tally: of the windows since the mark before.
    """

    windows: int
    place: Place
    start: int
    rows_sha256: str
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)

    def entry(self) -> dict[str, Any]:
        """As it stands in the journal."""
        tally = self.tally
        counted = {name: getattr(tally, name) for name in _COUNTS}
        also = {"failed_rows": tally.failed_rows, "replaced": sorted(tally.replaced), "first_error": tally.first_error}
        return {
            MARK: self.windows, "place": list(self.place), "start": self.start, "rows_sha256": self.rows_sha256,
            "seconds": self.seconds, "tally": counted | also,
        }  # fmt: skip


def last(journal: Journal) -> Mark | None:
    """The last mark, with the seconds and counts of all of them; None without any. Raises JobChangedError for what is none of ours."""
    if not journal.marks:
        return None
    tally, seconds = Tally(), 0.0
    try:
        for entry in journal.marks:
            counts = dict(entry["tally"])
            counts["replaced"] = set(counts["replaced"])
            tally.merge(Tally(**counts))
            seconds += entry["seconds"]
        entry = journal.marks[-1]
        place, counted = Place(*entry["place"]), (entry[MARK], entry["start"])
        spans = [number for first, last in tally.failed_rows for number in (first, last)]
        numbers = (*counted, place.rows, place.lines, place.bytes, tally.rows, tally.failed, *tally.tokens_by_kind, *spans)
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("not a count")
        if not all(isinstance(text, str) for text in (place.read_as, place.sha256, entry["rows_sha256"], *tally.replaced)):
            raise ValueError("not a text")
        return Mark(entry[MARK], place, entry["start"], entry["rows_sha256"], float(seconds), tally)
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise damaged(journal.path) from exc
