"""The one job loop: read → skip what is done → batch → answer → append → report.

Knows rows, journals and batches; what an answer is, the task knows, and who answers, the executor. The output is a function of
input, task and settings alone: killed at any moment and run again, it has the same bytes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from llmkit.errors import RowsFailedError, UsageError
from llmkit.jobs import earlier
from llmkit.jobs.batching import Work, batches, windows
from llmkit.jobs.executor import Executor, Here, Task, growing
from llmkit.jobs.journal import Journal
from llmkit.jobs.outcome import Answer, Outcome, Tally, row_digest
from llmkit.jobs.output import Output, jsonl_line
from llmkit.jobs.report import Report
from llmkit.jobs.stopping import Stopping
from llmkit.records import differences, peak_memory_bytes, run_record
from llmkit.rows import Row, Rows


@dataclass(frozen=True)
class JobSettings:
    """How a job runs; none of it changes an answer but `batch_size` and `batch_tokens`, in the last bits.

    batch_size: rows per batch, None for automatic; max_time: seconds.
    """

    batch_size: int | None = None
    batch_tokens: int = 16_384
    max_errors: int | None = None
    retry_failed: bool = False
    max_time: float | None = None

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise UsageError("`batch_tokens` must be 1 or more")


#: Parts of an identity that are known when the model is loaded, or the rows are read.
_KNOWN_LATER = ("model.", "resolved.", "rows_sha256")


@dataclass(frozen=True)
class RunName:
    """Which run this is: its command, the options that were given, and its identity (see `llmkit.records.identity`)."""

    command: str
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)


def answered(
    rows: Rows, task: Task, settings: JobSettings, report: Report, tally: Tally, executor: Executor | None = None
) -> Iterator[Outcome]:
    """The outcomes in input order, window by window, counted in `tally`. There is nothing to resume.

    Raises TimeUpError when the time is up, and RowsFailedError past the errors allowed.
    """
    begun = time.monotonic()
    stopping = Stopping(settings.max_time, report.notice, resumable=False)
    executor = executor or Here(task, report, stopping)
    with report.progress("rows") as progress:
        for window in windows(rows):
            works = [task.prepare(row) for row in window]
            done = {w.row.index: _failed(w) for w in works if w.error is not None}
            for batch, answers in executor.run(stopping.between(_plan(works, task, settings))):
                done |= {w.row.index: Outcome(w.row.index, w.row.fields, a) for w, a in zip(batch, answers, strict=True)}
                progress.advance(len(batch), sum(a.tokens for a in answers))
            for index in sorted(done):
                tally.add(done[index])
                yield done[index]
            _check_errors(tally.failed, tally, settings)
    tally.seconds = time.monotonic() - begun


def stream_job(rows: Rows, task: Task, settings: JobSettings, report: Report, write: Callable[[str], None]) -> Tally:
    """Answers rows as JSON lines, each handed to `write`."""
    tally = Tally()
    for outcome in answered(rows, task, settings, report, tally):
        write(jsonl_line(outcome.line()))
    return tally


def file_job(
    rows: Rows, task: Task, settings: JobSettings, output: Output, report: Report, run: RunName, executor: Executor | None = None
) -> Tally:
    """Answers rows into `output`, or continues a run that was ended.

    Raises StoppedError or TimeUpError with the work kept, JobChangedError for another run's journal, OutputError for another
    run's output, RowsFailedError past the errors allowed, and UnavailableError when the disk or the memory is full.
    """
    kept = earlier.failed_run(output, run.identity) if settings.retry_failed else None
    if output.finished and kept is None and not output.overwrites:
        return _complete_before(output, rows, run, report)
    identity = {**run.identity, **({"retry_failed": True} if settings.retry_failed else {})}
    path, counts = output.journal_path, earlier.changes_that_count
    with Stopping(settings.max_time, report.notice) as stopping, closing(Journal(path, identity, counts)) as journal:
        if smaller := earlier.smaller_batches(journal.begun_as, identity):
            report.warn(f"continuing an unfinished run with smaller batches: {'; '.join(smaller)}; scores may differ in their last digits")
        loop = _Loop(rows, task, settings, journal, report, stopping, executor or Here(task, report, stopping))
        tally = loop.run(kept)
        if kept is not None:
            earlier.check_same_rows(output, loop.rows_sha256)
        journal.sync()

        def record(sha256: str) -> dict[str, Any]:
            known = {**run.identity, "rows_sha256": loop.rows_sha256}
            return run_record(run.command, run.options, known, _result(tally, rows, output, sha256))

        output.commit(earlier.JournalRows(journal), record)
    return tally


def answer_rows(
    rows: Rows, task: Task, settings: JobSettings, output: Output | None, report: Report, run: RunName,
    take: Callable[[dict[str, Any], bool], None],
) -> Tally:  # fmt: skip
    """Answers rows, into `output` where there is one, and hands each output row to `take`, with whether it failed.

    Raises what `file_job` raises, or `answered` without an output.
    """
    if output is None:
        tally = Tally()
        for outcome in answered(rows, task, settings, report, tally):
            take(outcome.line(), outcome.answer.error is not None)
        return tally
    tally = file_job(rows, task, settings, output, report, run)
    for row, failed in output.read_rows(tally.failed_rows):
        take(row, failed)
    return tally


class _Loop:
    """One pass over the rows: what the journal holds is skipped, the rest answered and appended."""

    def __init__(
        self, rows: Rows, task: Task, settings: JobSettings, journal: Journal, report: Report, stopping: Stopping, executor: Executor
    ) -> None:
        self.rows, self.task, self.settings, self.journal = rows, task, settings, journal
        self.report, self.stopping, self.executor = report, stopping, executor
        self._digest = hashlib.sha256()
        self._failed_now = 0

    @property
    def rows_sha256(self) -> str:
        """Of the rows that were read, in their order."""
        return self._digest.hexdigest()

    def run(self, kept: Iterator[tuple[dict[str, Any], bool]] | None) -> Tally:
        """kept: rows of a finished output whose failed ones are to be run again."""
        tally = Tally()
        saved = earlier.Saved(self.journal, self.rows.name)
        begun = time.monotonic()
        with self.report.progress("rows") as progress:
            for number, window in enumerate(windows(self.rows)):
                digests = {row.index: row_digest(row) for row in window}
                for row in window:
                    self._digest.update(digests[row.index].encode())
                done = saved.take(window, digests, number)
                if kept is not None:
                    again = {i: o for i, o in earlier.not_failed(window, kept, self.rows.name).items() if i not in done}
                    if again:
                        self._append(number, list(again.values()), digests, 0.0)
                    done |= again
                tally.resumed += len(done)
                progress.advance(len(done))
                if len(done) < len(window):
                    for outcome in self._answer(number, [row for row in window if row.index not in done], digests, window, tally):
                        done[outcome.index] = outcome
                        progress.advance(1, outcome.answer.tokens)
                for index in sorted(done):
                    tally.add(done[index])
            saved.end()
        tally.seconds = saved.seconds + time.monotonic() - begun
        return tally

    def _answer(
        self, number: int, missing: Sequence[Row], digests: Mapping[int, str], window: Sequence[Row], tally: Tally
    ) -> Iterator[Outcome]:
        """Outcomes of the rows of a window that are not done. Batches are planned from the whole window, so that a resume repeats them."""
        wanted = {row.index for row in missing}
        works = [self.task.prepare(row) for row in window]
        unanswerable = [_failed(w) for w in works if w.error is not None and w.row.index in wanted]
        if unanswerable:
            self._append(number, unanswerable, digests, 0.0)
            yield from self._counted(unanswerable, tally)
        planned = self._missing(_plan(works, self.task, self.settings), wanted)
        started = time.monotonic()
        for batch, answers in self.executor.run(self.stopping.between(planned)):
            outcomes = [Outcome(w.row.index, w.row.fields, a) for w, a in zip(batch, answers, strict=True)]
            self._append(number, outcomes, digests, time.monotonic() - started)
            started = time.monotonic()
            yield from self._counted(outcomes, tally)

    def _missing(self, plan: Iterable[Sequence[Work]], wanted: Collection[int]) -> Iterator[Sequence[Work]]:
        """The rows of each batch that are not done. Of a batch that an earlier run could not finish in time, parts."""
        for batch in plan:
            left = [w for w in batch if w.row.index in wanted]
            if self.stopping.limited and 0 < len(left) < len(batch):
                yield from growing(left)
            elif left:
                yield left

    def _append(self, number: int, outcomes: Sequence[Outcome], digests: Mapping[int, str], seconds: float) -> None:
        lines = [earlier.saved_row(outcome, digests[outcome.index]) for outcome in outcomes]
        self.journal.append({"window": number, "rows": lines, "seconds": seconds})

    def _counted(self, outcomes: Sequence[Outcome], tally: Tally) -> Iterator[Outcome]:
        yield from outcomes
        self._failed_now += sum(o.answer.error is not None for o in outcomes)
        for outcome in outcomes:
            tally.note_error(outcome.answer)
        _check_errors(self._failed_now, tally, self.settings)


def check_finished(output: Output, known: Mapping[str, Any]) -> None:
    """Refuses an output of another run before anything is loaded. `known`: the part of the identity that is known by now."""
    if not output.finished or output.overwrites:
        return
    record = output.read_record()
    if record is None:
        raise earlier.not_ours(output)
    there = {name: value for name, value in record["identity"].items() if not name.startswith(_KNOWN_LATER)}
    if changes := differences(there, known):
        raise earlier.another_run(output, changes, "`overwrite` replaces it")


def _complete_before(output: Output, rows: Rows, run: RunName, report: Report) -> Tally:
    """The same command after it has finished: says so, when it really is the same. Raises OutputError when it is not."""
    record = output.read_record()
    if record is None:
        raise earlier.not_ours(output)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row_digest(row).encode())
    changes = differences(record["identity"], {**run.identity, "rows_sha256": digest.hexdigest()})
    if changes:
        raise earlier.another_run(output, changes, "`overwrite` replaces it")
    output.check_complete(record)
    report.notice(f"{output.name} is already complete")
    return earlier.tally_of(record["result"])


def _result(tally: Tally, rows: Rows, output: Output, sha256: str) -> dict[str, Any]:
    """The run record's counts and measurements."""
    return {
        "rows": tally.rows,
        "failed": tally.failed,
        "failed_rows": tally.failed_rows,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "scored_tokens": tally.scored_tokens,
        "seconds": round(tally.seconds, 3),
        "tokens_per_second": round(tally.tokens / tally.seconds, 1) if tally.seconds else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "input": rows.name,
        "input_sha256": rows.sha256,
        "output": output.name,
        "output_sha256": sha256,
    }


def _plan(works: Sequence[Work], task: Task, settings: JobSettings) -> Iterable[Sequence[Work]]:
    return batches(works, rows=settings.batch_size, tokens=settings.batch_tokens, width=task.width)


def _failed(work: Work) -> Outcome:
    error = "" if work.error is None else work.error.message
    return Outcome(work.row.index, work.row.fields, Answer(error=error, hint=None if work.error is None else work.error.hint))


def _check_errors(failed: int, tally: Tally, settings: JobSettings) -> None:
    if settings.max_errors is not None and failed > settings.max_errors:
        raise RowsFailedError(
            f"{failed:,} rows failed, more than `max_errors` {settings.max_errors}; the first: {tally.first_error}", hint=tally.first_hint
        )
