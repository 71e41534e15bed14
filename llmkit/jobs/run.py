"""A job from rows to a file, a stream or a caller. Killed at any moment and run again, its file has the same bytes.

The output is a function of input, task and settings alone. Knows journals and outputs; what an answer is, the task knows, and who
answers, the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from llmkit.jobs import earlier
from llmkit.jobs.executor import Executor, Task
from llmkit.jobs.journal import Journal
from llmkit.jobs.loop import Loop, answered
from llmkit.jobs.outcome import RowsDigest, Tally, row_digest
from llmkit.jobs.output import Output, Writer, stream_writer
from llmkit.jobs.reporter import Reporter
from llmkit.jobs.settings import JobSettings
from llmkit.jobs.stopping import Stopping
from llmkit.records import differences, run_record
from llmkit.rows import Rows


@dataclass(frozen=True)
class RunName:
    """Which run this is: its command, the options that were given, and its identity (see `llmkit.records.identity`).

    measured: asked at the end for what else its record says of how it ran.
    """

    command: str
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    measured: Callable[[], dict[str, Any]] = dict


def stream_job(
    rows: Rows, task: Task, settings: JobSettings, report: Reporter, write: Callable[[bytes], None], form: Writer | None = None
) -> Tally:
    """Answers rows, and hands to `write` what `form` makes of them: each row as it is answered, or a document at the end.

    form: None is JSON lines. Raises what `answered` raises.
    """
    tally = Tally()
    form = form or stream_writer("jsonl", "")
    for data in form(outcome.line() for outcome in answered(rows, task, settings, report, tally)):
        write(data)
    tally.refuse(form.refused)
    return tally


def file_job(
    rows: Rows, task: Task, settings: JobSettings, output: Output, report: Reporter, run: RunName, executor: Executor | None = None
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
    stops = Stopping(settings.max_time, report.notice, max_tokens=settings.max_tokens)
    # signals are listened to before the journal exists
    with stops as stopping, closing(Journal(path, identity, counts)) as journal:
        if smaller := earlier.smaller_batches(journal.begun_as, identity):
            report.warn(f"continuing an unfinished run with smaller batches: {'; '.join(smaller)}; scores may differ in their last digits")
        loop = Loop(rows, task, settings, journal, report, stopping, executor or settings.executor(task, report, stopping))
        tally = loop.run(kept)
        if kept is not None:
            earlier.check_same_rows(output, loop.rows_sha256)
        journal.sync()

        def record(sha256: str) -> dict[str, Any]:
            tally.refuse(output.write.refused)
            known = {**run.identity, "rows_sha256": loop.rows_sha256}
            result = earlier.result_of(tally, rows.name, rows.sha256, output.name, sha256, table=rows.table)
            return run_record(run.command, run.options, known, result | run.measured())

        kind = earlier.JournalRows if settings.shard is None else earlier.JournalOutcomes
        output.commit(kind(journal), record, rows.table)
    return tally


def run_job(
    rows: Rows, task: Task, settings: JobSettings, into: Output | Writer | None, report: Reporter, run: RunName,
    write: Callable[[bytes], None],
) -> Tally:  # fmt: skip
    """Answers rows into a file, or as a writer makes them (None: JSON lines) through `write`.

    Raises what `file_job` and `stream_job` raise.
    """
    if isinstance(into, Output):
        return file_job(rows, task, settings, into, report, run)
    return stream_job(rows, task, settings, report, write, into)


def answer_rows(
    rows: Rows, task: Task, settings: JobSettings, output: Output | None, report: Reporter, run: RunName,
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


def _complete_before(output: Output, rows: Rows, run: RunName, report: Reporter) -> Tally:
    """The same command after it has finished: says so, when it really is the same. Raises OutputError when it is not."""
    record = output.read_record()
    if record is None:
        raise earlier.not_ours(output)
    digest = RowsDigest()
    for row in rows:
        digest.add(row_digest(row))
    changes = differences(record["identity"], {**run.identity, "rows_sha256": digest.state})
    if changes:
        raise earlier.another_run(output, changes, "`overwrite` replaces it")
    output.check_complete(record)
    report.notice(f"{output.name} is already complete")
    return earlier.tally_of(record["result"])
