"""The one loop over rows: read → skip what is done → batch → answer → append, with a journal or without one.

Knows rows, batches and journals; not files of answers.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llmkit.errors import RowsFailedError, counted
from llmkit.jobs import earlier, marks
from llmkit.jobs.batching import Work, batches, windows
from llmkit.jobs.executor import Executor, Task, growing
from llmkit.jobs.journal import Journal
from llmkit.jobs.outcome import Answer, Outcome, RowsDigest, Tally, row_digest
from llmkit.jobs.reporter import Progress, Reporter
from llmkit.jobs.settings import JobSettings
from llmkit.jobs.stopping import Stopping
from llmkit.rows import Place, Row, Rows


def answered(
    rows: Rows, task: Task, settings: JobSettings, report: Reporter, tally: Tally, executor: Executor | None = None
) -> Iterator[Outcome]:
    """The outcomes in input order, window by window, counted in `tally`. There is nothing to resume.

    Raises TimeUpError when the time is up, and RowsFailedError past the errors allowed.
    """
    begun = time.monotonic()
    stopping = Stopping(settings.max_time, report.notice, max_tokens=settings.max_tokens, resumable=False)
    executor = executor or settings.executor(task, report, stopping)
    with report.progress(rows.unit, rows.name) as progress:
        for window in windows(rows):
            progress.expect(rows.total)
            works = [task.prepare(row) for row in window]
            done = {w.row.index: outcome for w in works if (outcome := _settled(w)) is not None}
            progress.skip(len(done))
            for batch, answers in executor.run(stopping.between(_open(_plan(works, task, settings)))):
                done |= {w.row.index: Outcome(w.row.index, w.row.fields, a) for w, a in zip(batch, answers, strict=True)}
                stopping.spend(answers)
                progress.advance(len(batch), sum(a.tokens for a in answers))
            for index in sorted(done):
                tally.add(done[index])
                yield done[index]
            _check_errors(tally.failed, tally, settings)
    tally.seconds = time.monotonic() - begun


@dataclass
class _Window:
    """Rows that are read and not all answered. waiting: places of those that this run has yet to answer. seconds: of its answers.

    start: where the journal's first entry about it may stand, None while there is none. place and rows_sha256: as of its end
    (see `marks.Mark`).
    """

    number: int
    digests: dict[int, str]
    done: dict[int, Outcome]
    waiting: set[int]
    start: int | None
    place: Place | None
    rows_sha256: str
    seconds: float


class Loop:
    """One pass over the rows: what the journal holds is skipped, the rest answered and appended.

    The next windows begin while the last batches of one are out, so that an executor of many is never idle at its end.
    """

    def __init__(
        self, rows: Rows, task: Task, settings: JobSettings, journal: Journal, report: Reporter, stopping: Stopping, executor: Executor
    ) -> None:
        self.rows, self.task, self.settings, self.journal = rows, task, settings, journal
        self.report, self.stopping, self.executor = report, stopping, executor
        self._tally, self._lately = Tally(), Tally()  # _lately: since the last mark
        self._marked, self._seconds = 0, 0.0  # windows before the last mark, and the seconds since
        self._open: dict[int, _Window] = {}
        self._digest = RowsDigest()
        self._failed_now = 0
        self._since = time.monotonic()  # when the last entry was appended

    @property
    def rows_sha256(self) -> str:
        """Of the rows that were read, in their order."""
        return self._digest.state

    def run(self, kept: earlier.Finished | None) -> Tally:
        """kept: a finished output whose failed rows are to be run again."""
        begun = time.monotonic()
        with self.report.progress(self.rows.unit, self.rows.name) as progress:
            self._saved = self._resume(kept, progress)
            for batch, answers in self.executor.run(self.stopping.between(self._batches(kept, progress))):
                window = next(w for w in self._open.values() if batch[0].row.index in w.waiting)
                self._answered(window, [Outcome(w.row.index, w.row.fields, a) for w, a in zip(batch, answers, strict=True)], progress)
                self._settle()
                if self.settings.crew is not None:
                    progress.beside(self.settings.crew.working)
            self._settle()
            self._saved.end()
        self._tally.merge(self._lately)
        self._tally.seconds = self._saved.seconds + time.monotonic() - begun
        return self._tally

    def _resume(self, kept: earlier.Finished | None, progress: Progress) -> earlier.Saved:
        """What the journal holds, behind its last mark where the input can be read from there."""
        mark = marks.last(self.journal) if kept is None else None
        skipped = mark is not None and self.rows.skip(mark.place)
        self._marks = kept is None and skipped is (mark is not None)  # whether more are written
        if mark is None or not skipped:
            return earlier.Saved(self.journal, self.rows.name)
        self._tally.merge(mark.tally)
        self._tally.resumed = mark.tally.rows
        self._marked, self._digest = mark.windows, RowsDigest(mark.rows_sha256)
        done = mark.tally
        self.stopping.spend([Answer({}, None, done.prompt_tokens, done.completion_tokens, done.scored_tokens)])
        progress.skip(done.rows)
        saved = earlier.Saved(self.journal, self.rows.name, begin=mark.start, first=mark.windows)
        saved.seconds = mark.seconds
        return saved

    def _batches(self, kept: earlier.Finished | None, progress: Progress) -> Iterator[Sequence[Work]]:
        """The batches of all windows; an empty one where the next window has to wait for one that is too far behind."""
        for number, rows in enumerate(windows(self.rows), self._marked):
            while any(before < number - self.settings.windows_ahead for before in self._open):
                yield ()
            progress.expect(self.rows.total)
            window = self._read(number, rows, kept)
            self._tally.resumed += len(window.done)
            progress.skip(len(window.done))
            yield from self._begin(window, rows, progress)
            self._settle()

    def _read(self, number: int, rows: Sequence[Row], kept: earlier.Finished | None) -> _Window:
        """A window with what is done of it."""
        digests = {row.index: row_digest(row) for row in rows}
        for row in rows:
            self._digest.add(digests[row.index])
        done = self._saved.take(rows, digests, number)
        self.stopping.spend(outcome.answer for outcome in done.values())
        start, place = self._saved.begin if done else None, self.rows.place() if self._marks else None
        window = _Window(number, digests, done, set(), start, place, self.rows_sha256, self._saved.seconds_of(number))
        self._open[number] = window
        if kept is not None:
            again = {i: o for i, o in earlier.not_failed(rows, kept, self.rows.name).items() if i not in done}
            if again:
                self._append(window, list(again.values()), 0.0)
            done |= again
        return window

    def _begin(self, window: _Window, rows: Sequence[Row], progress: Progress) -> Iterator[Sequence[Work]]:
        """The batches of a window with rows that are not done, planned from the whole window, so that a resume repeats them."""
        if len(window.done) == len(rows):
            return
        works = [self.task.prepare(row) for row in rows]
        shard, planned = self.settings.shard, list(_plan(works, self.task, self.settings))
        nobodys = [w for w in works if w.error is not None and (shard is None or shard.has_row(w.row.index))]
        if shard is not None:
            planned = [batch for place, batch in enumerate(planned) if shard.has_batch(window.number, place)]
        missing = list(_open(self._missing(planned, window.done)))
        nobodys += [w for batch in planned for w in batch]
        settled = [outcome for w in nobodys if w.row.index not in window.done and (outcome := _settled(w)) is not None]
        window.waiting = {w.row.index for batch in missing for w in batch} | {outcome.index for outcome in settled}
        if settled:
            self._answered(window, settled, progress)
        self._since = time.monotonic()
        yield from missing

    def _missing(self, planned: Iterable[Sequence[Work]], done: Container[int]) -> Iterator[Sequence[Work]]:
        """The rows of each batch that are not done. Of a batch that an earlier run could not finish in time, parts."""
        for batch in planned:
            left = [w for w in batch if w.row.index not in done]
            if self.stopping.limited and 0 < len(left) < len(batch):
                yield from growing(left)
            elif left:
                yield left

    def _answered(self, window: _Window, outcomes: Sequence[Outcome], progress: Progress) -> None:
        """Keeps outcomes. Raises RowsFailedError past the errors allowed."""
        self._append(window, outcomes, time.monotonic() - self._since)
        self._since = time.monotonic()
        self.stopping.spend(outcome.answer for outcome in outcomes)
        for outcome in outcomes:
            window.done[outcome.index] = outcome
            window.waiting.discard(outcome.index)
            progress.advance(1, outcome.answer.tokens)
        self._failed_now += sum(o.answer.error is not None for o in outcomes)
        for outcome in outcomes:
            self._tally.note_error(outcome.answer)
        _check_errors(self._failed_now, self._tally, self.settings)

    def _settle(self) -> None:
        """Counts the windows that are complete, in their order."""
        for number in sorted(self._open):
            window = self._open[number]
            if window.waiting:
                return
            for index in sorted(window.done):
                self._lately.add(window.done[index])
            self._seconds += window.seconds
            del self._open[number]
            if window.place is not None and number + 1 >= self._marked + marks.EVERY:
                self._mark(window, window.place)

    def _mark(self, window: _Window, place: Place) -> None:
        """Says in the journal that everything up to the end of this window is done."""
        start = min((w.start for w in self._open.values() if w.start is not None), default=self.journal.end)
        mark = marks.Mark(window.number + 1, place, start, window.rows_sha256, self._seconds, self._lately)
        self.journal.append(mark.entry())
        self._tally.merge(self._lately)
        self._marked, self._seconds, self._lately = window.number + 1, 0.0, Tally()

    def _append(self, window: _Window, outcomes: Sequence[Outcome], seconds: float) -> None:
        window.start = self.journal.end if window.start is None else window.start
        window.seconds += seconds
        lines = [earlier.saved_row(outcome, window.digests[outcome.index]) for outcome in outcomes]
        self.journal.append(earlier.saved_entry(window.number, lines, seconds, min(self._open)))


def _plan(works: Sequence[Work], task: Task, settings: JobSettings) -> Iterable[Sequence[Work]]:
    return batches(works, rows=settings.batch_size, tokens=settings.batch_tokens, width=task.width)


def _open(planned: Iterable[Sequence[Work]]) -> Iterator[Sequence[Work]]:
    """The batches without rows whose answer is known, and none that is empty."""
    for batch in planned:
        if missing := [work for work in batch if work.known is None]:
            yield missing


def _settled(work: Work) -> Outcome | None:
    """The outcome of a row that nobody has to be asked about: one that can't be answered, or whose answer is known."""
    answer = work.known if work.error is None else Answer(error=work.error.message, hint=work.error.hint)
    return None if answer is None else Outcome(work.row.index, work.row.fields, answer)


def _check_errors(failed: int, tally: Tally, settings: JobSettings) -> None:
    if settings.max_errors is not None and failed > settings.max_errors:
        allowed = f", more than `max_errors` {settings.max_errors}" if settings.max_errors else ""
        raise RowsFailedError(f"{counted(failed, 'row')} failed{allowed}; the first: {tally.first_error}", hint=tally.first_hint)
