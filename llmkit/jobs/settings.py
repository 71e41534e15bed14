"""How a job runs, and by whom its batches are answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmkit.engines.base import TextEngine
from llmkit.engines.elsewhere import Elsewhere
from llmkit.engines.turns import Turns
from llmkit.errors import UsageError
from llmkit.jobs.batching import AUTO_ROWS, WINDOW_ROWS
from llmkit.jobs.executor import Concurrent, Executor, Here, Task
from llmkit.jobs.reporter import Reporter
from llmkit.jobs.shards import Shard
from llmkit.jobs.stopping import Stopping
from llmkit.jobs.workers import Crew, Workers


@dataclass(frozen=True)
class JobSettings:
    """How a job runs; none of it changes an answer but `batch_size` and `batch_tokens`, in the last bits.

    batch_size: rows per batch, None for automatic; max_time: seconds; max_tokens: of all prompts and answers. concurrency: batches
    that are answered at once. shard: the part of the batches that this run answers, None for all. crew: workers elsewhere who answer.
    turns: of threads that answer in this process; the next batch is made ready while the model answers one.
    """

    batch_size: int | None = None
    batch_tokens: int = 16_384
    max_errors: int | None = None
    retry_failed: bool = False
    max_time: float | None = None
    max_tokens: int | None = None
    concurrency: int = 1
    shard: Shard | None = None
    crew: Crew | None = None
    turns: Turns | None = None

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise UsageError("`batch_tokens` must be 1 or more")
        if self.concurrency < 1:
            raise UsageError("`concurrency` must be 1 or more")

    def for_engine(self, engine: TextEngine) -> JobSettings:
        """How rows are answered by this engine: by its workers, or one by one and several at once where it waits for servers.

        Rows that share a batch would wait for each other, and be asked for again together after a run that was ended.
        """
        if isinstance(engine, Elsewhere):
            return replace(self, crew=engine.crew)
        if not engine.servers:
            return replace(self, turns=engine.turns)
        return replace(self, concurrency=engine.concurrency, batch_size=self.batch_size or 1)

    @property
    def windows_ahead(self) -> int:
        """How many windows may begin before one is complete: one, and as many as the batches that are out at once may fill."""
        out = self.concurrency if self.crew is None else self.crew.most
        return 1 + out * min(self.batch_size or AUTO_ROWS, WINDOW_ROWS) // WINDOW_ROWS

    def executor(self, task: Task, report: Reporter, stopping: Stopping) -> Executor:
        """Who answers the batches where nobody else is named."""
        if self.crew is not None:
            return Workers(self.crew, task, report, stopping)
        if self.concurrency > 1:
            return Concurrent(task, self.concurrency, report, check=stopping.late)
        if self.turns is None or stopping.limited:  # then a batch may be broken off, and parts of it are tried
            return Here(task, report, stopping)
        return Concurrent(task, 2, report, turns=self.turns)
