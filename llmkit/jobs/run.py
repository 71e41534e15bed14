"""The one job loop: read → skip what is done → batch → run → append → report.

Knows rows, journals and batches; what an answer is, the task knows. The output is a function of input, task and
settings alone: killed at any moment and run again, it comes out byte for byte the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmkit.errors import JobChangedError, OutOfMemoryError, OutputError, RowsFailedError, UsageError
from llmkit.jobs.batching import Work, batches, windows
from llmkit.jobs.journal import Journal, differences
from llmkit.jobs.output import Output, jsonl_line
from llmkit.jobs.report import Report
from llmkit.jobs.stopping import Stopping
from llmkit.records import peak_memory_bytes, run_record
from llmkit.rows import Row, Rows


@dataclass(frozen=True)
class JobSettings:
    """How a job runs; none of it changes an answer but `batch_size` and `batch_tokens`, in the last bits."""

    batch_size: int | None = None
    batch_tokens: int = 16_384
    max_errors: int | None = None
    retry_failed: bool = False
    max_time: float | None = None

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise UsageError("--batch-tokens must be 1 or more")


class Task(Protocol):
    """What a command does with rows. width: continuations of a row that are held at once (beams or samples)."""

    width: int

    def prepare(self, row: Row) -> Work:
        """Never raises for a bad row: its error is in the work."""
        ...

    def answer(self, batch: Sequence[Work]) -> list[dict[str, Any]]:
        """The fields that each row receives; {'error': ...} for one that failed."""
        ...


@dataclass
class Tally:
    """What a job has done."""

    rows: int = 0
    failed: int = 0
    resumed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    first_error: str | None = None

    def add(self, row: dict[str, Any]) -> None:
        self.rows += 1
        if "error" in row:
            self.failed += 1
            self.first_error = self.first_error or str(row["error"])
        self.prompt_tokens += _total(row.get("prompt_tokens"))
        self.completion_tokens += _total(row.get("completion_tokens"))
        if "log_likelihood" in row:
            self.scored_tokens += row["tokens"]

    @property
    def exit_code(self) -> int:
        return 3 if self.failed else 0

    def __str__(self) -> str:
        tokens = self.completion_tokens or self.scored_tokens
        rate = f", {tokens / self.seconds:,.0f} tokens/s" if self.seconds > 0 and tokens else ""
        failed = f", {self.failed:,} failed" if self.failed else ""
        resumed = f" ({self.resumed:,} from before)" if self.resumed else ""
        return f"{self.rows:,} rows{resumed}{failed}, {tokens:,} tokens in {self.seconds:.1f} s{rate}"


@dataclass
class Runner:
    """Answers windows of rows in batches, smaller ones after memory ran out."""

    task: Task
    settings: JobSettings
    report: Report
    most: int | None = field(default=None, init=False)

    def batches(self, works: Sequence[Work]) -> list[list[Work]]:
        return batches(works, rows=self.settings.batch_size, tokens=self.settings.batch_tokens, width=self.task.width)

    def answer(self, batch: Sequence[Work]) -> list[dict[str, Any]]:
        """The whole output rows of `batch`. Out of memory halves it; raises OutOfMemoryError when one row alone is too much."""
        if self.most is not None and len(batch) > self.most:
            return [row for part in _parts(batch, self.most) for row in self.answer(part)]
        try:
            answers = self.task.answer(batch)
            return [work.row.fields | answer for work, answer in zip(batch, answers, strict=True)]
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Outside the handler: its traceback would keep the failed batch in memory during the next try.
        self.most = len(batch) // 2
        self.report.warn(f"out of memory with {len(batch)} rows at once; going on with {self.most}")
        return self.answer(batch)


def answered(rows: Rows, task: Task, settings: JobSettings, out: Report, tally: Tally) -> Iterator[dict[str, Any]]:
    """The answered rows in input order, window by window, counted in `tally`. There is nothing to resume."""
    runner = Runner(task, settings, out)
    begun = time.monotonic()
    with out.progress("rows") as progress:
        for window in windows(rows):
            works = [task.prepare(row) for row in window]
            done = {w.row.index: _failed(w) for w in works if w.error is not None}
            for batch in runner.batches(works):
                answers = runner.answer(batch)
                done |= {w.row.index: a for w, a in zip(batch, answers, strict=True)}
                progress.advance(len(batch), sum(map(_tokens, answers)))
            for index in sorted(done):
                tally.add(done[index])
                yield done[index]
            _check_errors(tally, settings)
    tally.seconds = time.monotonic() - begun


def stream_job(rows: Rows, task: Task, settings: JobSettings, out: Report, write: Callable[[str], None]) -> Tally:
    """Answers rows as JSON lines, each handed to `write`."""
    tally = Tally()
    for row in answered(rows, task, settings, out, tally):
        write(jsonl_line(row))
    return tally


def file_job(
    rows: Rows,
    task: Task,
    settings: JobSettings,
    output: Output,
    out: Report,
    *,
    command: str,
    options: dict[str, Any],
    identity: dict[str, Any],
) -> Tally:
    """Answers rows into `output`, or goes on with a run that was ended. `identity` is what must not change between.

    Raises StoppedError or TimeUpError with the work kept, JobChangedError for another run's journal, RowsFailedError
    past --max-errors, and UnavailableError when the disk or the memory is full.
    """
    earlier = _earlier(output, settings, identity)
    if output.finished and earlier is None and not output.overwrites:
        return _already_done(output, rows, identity, out)
    identified = identity | ({"retry_failed": True} if settings.retry_failed else {})
    with Stopping(settings.max_time, out.notice) as stopping, closing(Journal(output.journal_path, identified)) as journal:
        tally = _run(rows, task, settings, journal, earlier, out, stopping)
        journal.sync()
        rendered = Tally(resumed=tally.resumed, seconds=tally.seconds)

        def record(sha256: str) -> dict[str, Any]:
            return run_record(command, options, identity, _result(rendered, rows, output, sha256))

        output.commit(_rows(journal, rendered), record)
    return rendered


def _result(tally: Tally, rows: Rows, output: Output, sha256: str) -> dict[str, Any]:
    """The run record's counts and measurements."""
    tokens = tally.completion_tokens or tally.scored_tokens
    return {
        "rows": tally.rows,
        "failed": tally.failed,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "scored_tokens": tally.scored_tokens,
        "seconds": round(tally.seconds, 3),
        "tokens_per_second": round(tokens / tally.seconds, 1) if tally.seconds else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "input": rows.name,
        "input_sha256": rows.sha256,
        "output": output.name,
        "output_sha256": sha256,
    }


def check_finished(output: Output, settings: JobSettings, known: dict[str, Any]) -> None:
    """Refuses an output of another run before anything is loaded. `known`: the part of the identity that is known by now."""
    if not output.finished or output.overwrites:
        return
    record = output.read_record()
    hint = "--overwrite replaces it"
    if record is None or not isinstance(record.get("identity"), dict):
        raise OutputError(f"{output.name} exists and no run of llmkit is known to have made it", hint=hint)
    there = {name: record["identity"].get(name) for name in known}
    if changes := differences(there, known):
        raise OutputError(f"{output.name} exists and belongs to another run: {'; '.join(changes)}", hint=hint)


def _run(
    rows: Rows,
    task: Task,
    settings: JobSettings,
    journal: Journal,
    earlier: Iterator[dict[str, Any]] | None,
    out: Report,
    stopping: Stopping,
) -> Tally:
    runner, tally = Runner(task, settings, out), Tally()
    saved = _Saved(journal, rows.name)
    begun = time.monotonic()
    with out.progress("rows") as progress:
        for number, window in enumerate(windows(rows)):
            done = saved.take(window, number)
            if earlier is not None:
                done = _kept(window, earlier) | done
            tally.resumed += len(done)
            progress.advance(len(done))
            if len(done) == len(window) and earlier is None:
                continue
            works = [task.prepare(row) for row in window]
            failed = [w for w in works if w.error is not None and w.row.index not in done]
            batch_list = [failed] if failed else []
            for whole in batch_list + runner.batches(works):
                batch = [w for w in whole if w.row.index not in done]
                if not batch:
                    continue
                stopping.check()
                started = time.monotonic()
                answers = [_failed(w) for w in batch] if whole is failed else runner.answer(batch)
                lines = [[w.row.index, _digest(w.row), a] for w, a in zip(batch, answers, strict=True)]
                journal.append({"window": number, "rows": lines, "seconds": time.monotonic() - started})
                for answer in answers:
                    tally.add(answer)
                progress.advance(len(batch), sum(map(_tokens, answers)))
                _check_errors(tally, settings)
            if earlier is not None:
                kept = [[row.index, _digest(row), done[row.index]] for row in window if row.index in done and row.index not in saved.seen]
                if kept:
                    journal.append({"window": number, "rows": kept, "seconds": 0.0})
        saved.end()
    tally.seconds = saved.seconds + time.monotonic() - begun
    return tally


class _Saved:
    """What the journal holds, taken window by window beside the input, so that memory does not grow."""

    def __init__(self, journal: Journal, source: str) -> None:
        self._entries = journal.entries() if journal.resumed else iter(())
        self._next = next(self._entries, None)
        self._source = source
        self.seconds = 0.0
        self.seen: set[int] = set()

    def take(self, window: Sequence[Row], number: int) -> dict[int, dict[str, Any]]:
        """The rows of this window that are done. Raises JobChangedError when one of them is another row now."""
        rows = {row.index: row for row in window}
        done: dict[int, dict[str, Any]] = {}
        while self._next is not None and self._next["window"] == number:
            for index, digest, answer in self._next["rows"]:
                row = rows.get(index)
                if row is None or _digest(row) != digest:
                    line = f", line {row.line}" if row is not None and row.line else ""
                    raise JobChangedError(
                        f"{self._source}{line}: row {index + 1} is not the one that was answered before",
                        hint="the input has changed; --restart starts over",
                    )
                done[index] = answer
            self.seconds += self._next["seconds"]
            self._next = next(self._entries, None)
        self.seen = set(done)
        return done

    def end(self) -> None:
        if self._next is not None:
            raise JobChangedError(
                f"{self._source}: has fewer rows than were answered before", hint="the input has changed; --restart starts over"
            )


def _rows(journal: Journal, tally: Tally) -> Iterator[dict[str, Any]]:
    """The answered rows in input order, a window at a time."""
    window: dict[int, dict[str, Any]] = {}
    number = None

    def flush() -> Iterator[dict[str, Any]]:
        for index in sorted(window):
            tally.add(window[index])
            yield window[index]

    for entry in journal.entries():
        if entry["window"] != number:
            yield from flush()
            window, number = {}, entry["window"]
        window |= {index: answer for index, _, answer in entry["rows"]}
    yield from flush()


def _earlier(output: Output, settings: JobSettings, identity: dict[str, Any]) -> Iterator[dict[str, Any]] | None:
    """The rows of the finished output whose failed ones are to be run again."""
    if not settings.retry_failed:
        return None
    record = output.read_record()
    if not output.path.exists() or record is None:
        raise OutputError(f"{output.name}: there is no finished run whose failed rows could be run again", hint="leave --retry-failed away")
    if not output.holds_rows:
        raise UsageError("--retry-failed needs a .jsonl output: a text file does not hold the errors")
    if changes := differences(record.get("identity", {}), identity):
        raise OutputError(
            f"{output.name} belongs to another run: {'; '.join(changes)}", hint="run the first command again with --retry-failed"
        )
    return read_output(output)


def read_output(output: Output) -> Iterator[dict[str, Any]]:
    """The rows of a finished .jsonl output."""
    with output.path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _kept(window: Sequence[Row], earlier: Iterator[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The rows of a window that had no error before. Raises JobChangedError when the input is another one now."""
    out = {}
    for row in window:
        before = next(earlier, None)
        if before is None or any(before.get(name) != value for name, value in row.fields.items() if row.error is None):
            raise JobChangedError(
                f"row {row.index + 1} is not the one that was answered before", hint="the input has changed; --overwrite starts over"
            )
        if "error" not in before:
            out[row.index] = before
    return out


def _already_done(output: Output, rows: Rows, identity: dict[str, Any], out: Report) -> Tally:
    """The same command after it has finished: says so, when it really is the same."""
    record = output.read_record() or {}
    result = record.get("result", {})
    changes = differences(record.get("identity", {}), identity)
    for _ in rows:
        pass
    if not changes and rows.sha256 != result.get("input_sha256"):
        changes = ["its input has changed since"]
    if changes:
        raise OutputError(f"{output.name} exists and belongs to another run: {'; '.join(changes)}", hint="--overwrite replaces it")
    out.notice(f"{output.name} is already whole")
    return Tally(rows=result["rows"], failed=result["failed"], completion_tokens=result["completion_tokens"], seconds=result["seconds"])


def _check_errors(tally: Tally, settings: JobSettings) -> None:
    if settings.max_errors is not None and tally.failed > settings.max_errors:
        raise RowsFailedError(f"{tally.failed:,} rows failed, more than --max-errors {settings.max_errors}; the first: {tally.first_error}")


def _failed(work: Work) -> dict[str, Any]:
    return work.row.fields | {"error": "" if work.error is None else work.error.message}


def _digest(row: Row) -> str:
    content = json.dumps(row.fields, sort_keys=True, default=str) if row.error is None else row.error.message
    return hashlib.sha256(content.encode("ascii", "backslashreplace")).hexdigest()[:16]


def _parts(batch: Sequence[Work], size: int) -> Iterator[Sequence[Work]]:
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def _tokens(answer: dict[str, Any]) -> int:
    """Tokens that were written, or scored."""
    return _total(answer.get("completion_tokens", answer.get("tokens")))


def _total(value: Any) -> int:
    return sum(value) if isinstance(value, list) else value if isinstance(value, int) else 0
