"""What an earlier run has done: rows in its journal, a finished output, failed rows to be run again.

Knows journals and records; not tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from llmkit.errors import JobChangedError, OutputError, UsageError
from llmkit.jobs.batching import AUTO_ROWS
from llmkit.jobs.journal import Journal, damaged
from llmkit.jobs.outcome import Answer, Outcome, Tally
from llmkit.jobs.output import Output
from llmkit.records import differences, peak_memory_bytes
from llmkit.rows import Row
from llmkit.rows.base import TableForm


def saved_row(outcome: Outcome, digest: str) -> list[Any]:
    """An outcome as it stands in a journal's entry."""
    answer = outcome.answer
    counts = [answer.prompt_tokens, answer.completion_tokens, answer.scored_tokens]
    return [outcome.index, digest, dict(outcome.fields), dict(answer.fields), answer.error, counts]


def read_saved(saved: Any) -> tuple[Outcome, str]:
    """The outcome that `saved_row` wrote, and its row's digest. Raises ValueError or TypeError for what it did not write."""
    index, digest, fields, answer, error, counts = saved
    types = ((index, int), (digest, str), (fields, dict), (answer, dict), (error, (str, type(None))), (counts, list))
    if not all(isinstance(value, kind) for value, kind in types) or [type(c) for c in counts] != [int] * 3:
        raise ValueError("not a saved row")
    return Outcome(index, fields, Answer(answer, error, *counts)), digest


class _Entry(NamedTuple):
    """What a journal's entry says: some outcomes of a window with their rows' digests. open: the first window that may have more."""

    window: int
    rows: list[tuple[Outcome, str]]
    seconds: float
    open: int


def saved_entry(window: int, rows: Sequence[list[Any]], seconds: float, first_open: int) -> dict[str, Any]:
    """An entry as it stands in a journal. rows: of `saved_row`. first_open: the first window that is not complete.

    Where that is left out, it is the window before: so it is with few workers.
    """
    late = {"open": first_open} if first_open < window - 1 else {}
    return {"window": window, "rows": list(rows), "seconds": seconds, **late}


def _entry(entry: Mapping[str, Any], journal: Journal) -> _Entry:
    """Raises JobChangedError for an entry that no run of llmkit writes."""
    try:
        number, seconds = entry["window"], entry["seconds"]
        first_open = entry.get("open", number - 1)
        if type(number) is not int or type(first_open) is not int or first_open > number or not isinstance(seconds, (int, float)):
            raise ValueError("not a window")
        return _Entry(number, [read_saved(saved) for saved in entry["rows"]], float(seconds), first_open)
    except (KeyError, TypeError, ValueError) as exc:
        raise damaged(journal.path) from exc


class Saved:
    """What the journal holds, taken window by window beside the input, so that memory does not grow.

    Windows overlap while a run works: an entry tells which is the first that is still open, and those before it are complete.
    begin: where in the journal the first entry stands that may count; first: the window from which on entries do.
    """

    def __init__(self, journal: Journal, name: str, *, begin: int = 0, first: int = 0) -> None:
        self._journal, self._name, self.begin = journal, name, begin
        entries = (_entry(entry, journal) for entry in journal.entries(begin)) if journal.resumed else iter(())
        self._entries = (entry for entry in entries if entry.window >= first)
        self._next = next(self._entries, None)
        self._ahead: dict[int, list[tuple[Outcome, str]]] = {}  # of windows after the one that was taken last
        self.seconds = 0.0
        self._seconds_of: dict[int, float] = {}

    def seconds_of(self, number: int) -> float:
        """Of the entries of a window that was taken; asked once."""
        return self._seconds_of.pop(number, 0.0)

    def take(self, window: Sequence[Row], digests: Mapping[int, str], number: int) -> dict[int, Outcome]:
        """The outcomes of this window that are there. Raises JobChangedError when one of its rows is another row now."""
        lines = {row.index: row.line for row in window}
        while self._next is not None and self._next.open <= number:
            self._ahead.setdefault(self._next.window, []).extend(self._next.rows)
            self.seconds += self._next.seconds
            self._seconds_of[self._next.window] = self._seconds_of.get(self._next.window, 0.0) + self._next.seconds
            self._next = next(self._entries, None)
        outcomes = [saved for before in sorted(n for n in self._ahead if n <= number) for saved in self._ahead.pop(before)]
        done: dict[int, Outcome] = {}
        for outcome, digest in outcomes:
            if outcome.index not in lines:
                raise self._fewer_rows()
            if digests.get(outcome.index) != digest:
                line = f", line {lines[outcome.index]}" if lines.get(outcome.index) else ""
                raise JobChangedError(
                    f"{self._name}{line}: row {outcome.index + 1} has changed since the earlier run",
                    hint="`restart` starts over",
                )
            done[outcome.index] = outcome
        return done

    def end(self) -> None:
        """Raises JobChangedError when the journal holds rows that the input does not."""
        if self._next is not None or self._ahead:
            raise self._fewer_rows()

    def _fewer_rows(self) -> JobChangedError:
        return JobChangedError(f"{self._name}: has fewer rows than in the earlier run", hint="`restart` starts over")


class JournalRows:
    """The output rows that a complete journal holds, in input order, a few windows at a time; can be iterated again."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (outcome.line() for outcome, _ in _in_order(self._journal))


class JournalOutcomes:
    """What a complete journal holds as the lines of a shard (see `llmkit.jobs.shards`), in input order; can be iterated again."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"row": saved_row(outcome, digest)} for outcome, digest in _in_order(self._journal))


def _in_order(journal: Journal) -> Iterator[tuple[Outcome, str]]:
    """The rows of a journal with their digests."""
    open_windows: dict[int, dict[int, tuple[Outcome, str]]] = {}
    for entry in (_entry(each, journal) for each in journal.entries()):
        for before in sorted(n for n in open_windows if n < entry.open):
            yield from _by_index(open_windows.pop(before))
        open_windows.setdefault(entry.window, {}).update({outcome.index: (outcome, digest) for outcome, digest in entry.rows})
    for before in sorted(open_windows):
        yield from _by_index(open_windows[before])


def _by_index(window: Mapping[int, tuple[Outcome, str]]) -> Iterator[tuple[Outcome, str]]:
    return (window[index] for index in sorted(window))


def check_finished(output: Output, known: Mapping[str, Any]) -> None:
    """Refuses an output of another run before anything is loaded. `known`: the part of the identity that is known by now."""
    if not output.finished or output.overwrites:
        return
    record = output.read_record()
    if record is None:
        raise not_ours(output)
    there = {name: value for name, value in record["identity"].items() if not name.startswith(_KNOWN_LATER)}
    if changes := differences(there, known):
        raise another_run(output, changes, "`overwrite` replaces it")


@dataclass(frozen=True)
class Finished:
    """The rows of a finished output, in order, with whether each failed. counted: whether that run wrote the tokens of a row into it."""

    rows: Iterator[tuple[dict[str, Any], bool]]
    counted: bool


def failed_run(output: Output, identity: Mapping[str, Any]) -> Finished:
    """The finished output whose failed rows are to be run again.

    Raises OutputError when there is none, or it belongs to another run, and UsageError for an output that does not hold the errors.
    """
    if identity.get("shard") is not None:
        raise UsageError("`retry_failed` is for a whole output, not a `shard` of it", hint="gather the shards, then run without `shard`")
    record = output.read_record()
    if not output.path.exists() or record is None:
        raise OutputError(f"{output.name}: there is no finished run to retry", hint="remove `retry_failed`")
    if not output.holds_rows:
        raise UsageError("`retry_failed` needs a .jsonl output: other formats do not hold the whole row")
    before = {name: value for name, value in record["identity"].items() if name != "rows_sha256"}
    if changes := differences(before, identity):
        raise another_run(output, changes, "run the first command again with `retry_failed`")
    output.check_complete(record)
    result = record["result"]
    counted = bool(result.get("prompt_tokens") or result.get("completion_tokens"))
    return Finished(output.read_rows(result.get("failed_rows") or []), counted)


def not_failed(window: Sequence[Row], kept: Finished, name: str) -> dict[int, Outcome]:
    """The rows of a window that had not failed before. Raises JobChangedError when the input has another row now."""
    out = {}
    for row in window:
        before, failed = next(kept.rows, (None, True))
        if before is None or (row.error is None and not row.fields.keys() <= before.keys()):
            raise JobChangedError(
                f"{name}: row {row.index + 1} has changed since the earlier run",
                hint="`overwrite` starts over",
            )
        if not failed:
            answer = {field: value for field, value in before.items() if row.fields.get(field, _MISSING) != value}
            # a count that the input held, too, is the answer's where that run wrote counts
            out[row.index] = Outcome(row.index, row.fields, _counted(answer, before if kept.counted else answer))
    return out


def check_same_rows(output: Output, rows_sha256: str) -> None:
    """Raises JobChangedError when the rows are not those of the finished run. What a row's answer replaced shows only here."""
    record = output.read_record() or {}
    if record.get("identity", {}).get("rows_sha256") != rows_sha256:
        raise JobChangedError(f"{output.name}: the input has changed since the earlier run", hint="`overwrite` starts over")


#: Parts of an identity that are known when the model is loaded, or the rows are read.
_KNOWN_LATER = ("model.", "resolved.", "rows_sha256")
_MISSING = object()
_BATCHES = ("batch_size", "batch_tokens")


def _counted(fields: dict[str, Any], told: Mapping[str, Any]) -> Answer:
    """An answer read from a finished output. told: the fields that tell its counts."""

    def total(name: str) -> int:
        value = told.get(name)
        return sum(value) if isinstance(value, list) else value if isinstance(value, int) else 0

    return Answer(fields, None, total("prompt_tokens"), total("completion_tokens"))


def result_of(
    tally: Tally, input: str, input_sha256: str | None, output: str, output_sha256: str, *, peak_memory: int | None = None,
    table: TableForm | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The run record's counts and measurements. peak_memory: bytes, None for this process's. table: how the input's is written."""
    return {
        "rows": tally.rows,
        "failed": tally.failed,
        "failed_rows": tally.failed_rows,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "scored_tokens": tally.scored_tokens,
        "seconds": round(tally.seconds, 3),
        "tokens_per_second": round(tally.tokens / tally.seconds, 1) if tally.seconds else None,
        "peak_memory_bytes": peak_memory or peak_memory_bytes(),
        "input": input,
        "input_sha256": input_sha256,
        **({} if table is None else {"input_table": asdict(table)}),
        "output": output,
        "output_sha256": output_sha256,
    }


def tally_of(result: Mapping[str, Any]) -> Tally:
    """The counts of a finished run, from its record."""

    def count(name: str) -> int:
        return int(result.get(name) or 0)

    return Tally(
        rows=count("rows"),
        failed=count("failed"),
        prompt_tokens=count("prompt_tokens"),
        completion_tokens=count("completion_tokens"),
        scored_tokens=count("scored_tokens"),
        seconds=float(result.get("seconds") or 0.0),
        failed_rows=result.get("failed_rows") or [],
        complete_before=True,
    )


def smaller_batches(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Phrases of how the batches of a run are smaller than those it was begun with: what memory could not hold then."""
    kept = {name: before[name] for name in _BATCHES if name in before and name in now and 0 < _rows(now[name]) <= _rows(before[name])}
    return differences(kept, {name: now[name] for name in kept})


def changes_that_count(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Phrases of what keeps a run from continuing the one that was begun; smaller batches do not."""
    smaller = smaller_batches(before, now)
    return [phrase for phrase in differences(before, now) if phrase not in smaller]


def _rows(value: Any) -> int:
    """The rows (or tokens) of a batch that an option names; 0 for what names none."""
    text = str(value)
    return AUTO_ROWS if text == "auto" else int(text) if text.isdecimal() else 0


def not_ours(output: Output) -> OutputError:
    """The error for an output that no run of llmkit is known to have made."""
    return OutputError(f"{output.name} exists, and there is no record of the run that wrote it", hint="`overwrite` replaces it")


def another_run(output: Output, changes: Sequence[str], hint: str) -> OutputError:
    """The error for an output of another run. changes: phrases of `records.differences`."""
    return OutputError(f"{output.name} exists and belongs to another run: {'; '.join(changes)}", hint=hint)
