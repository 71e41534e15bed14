"""The options of jobs: how rows are batched, when a run stops, which part of it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from llmkit.cli.parsing import RUN, batch_size, count_option, duration, group, number_option, option, rows_a_batch, seconds, shard
from llmkit.errors import UsageError

if TYPE_CHECKING:
    from llmkit.jobs.settings import JobSettings
    from llmkit.jobs.shards import Shard
    from llmkit.jobs.workers import WorkerSettings

MaxErrors = Annotated[int | None, count_option("--max-errors", help="Stop when more than N rows have failed.", panel=RUN)]


@group
class RunOptions:
    """When a long run stops, and whether it continues."""

    restart: Annotated[bool, option("--restart", help="Discard an unfinished run and start again.", panel=RUN)] = False
    max_time: Annotated[
        str | None,
        option("--max-time", help="Stop after 90s, 55m or 2h; the same command continues.", panel=RUN, metavar="TIME", parser=duration),
    ] = None

    @property
    def max_seconds(self) -> float | None:
        """The time limit in seconds; None is no limit."""
        return seconds(self.max_time)


@group
class WorkerOptions:
    """How many processes run the model, and where."""

    workers: Annotated[int | None, count_option("--workers", help="Run the model in N processes, by Ray.", panel=RUN)] = None
    ray: Annotated[
        str | None,
        option("--ray", help="Workers on this Ray cluster: HOST:PORT, or auto on one of its nodes.", panel=RUN, metavar="ADDRESS"),
    ] = None
    cpus_per_worker: Annotated[
        float | None, number_option("--cpus-per-worker", help="CPUs of each worker. [default: its share, or 1 on --ray]", panel=RUN)
    ] = None
    gpus_per_worker: Annotated[
        float | None, number_option("--gpus-per-worker", help="GPUs of each worker, also 0.5. [default: 1 where there are any]", panel=RUN)
    ] = None

    @property
    def crew(self) -> WorkerSettings | None:
        """The workers, None for this process. Raises UsageError for options about workers without any."""
        if self.workers is None:
            about = {"ray": self.ray, "cpus_per_worker": self.cpus_per_worker, "gpus_per_worker": self.gpus_per_worker}
            if given := next((name for name, value in about.items() if value is not None), None):
                raise UsageError(f"`{given}` needs `workers`", hint="add `workers` N")
            return None
        from llmkit.jobs.workers import WorkerSettings

        return WorkerSettings(self.workers, self.ray, self.cpus_per_worker, self.gpus_per_worker)


@group
class JobOptions(WorkerOptions, RunOptions):
    """How rows are batched, and when a job stops."""

    batch_size: Annotated[
        str, option("--batch-size", help="Rows per batch: auto, or a number.", panel=RUN, parser=batch_size, metavar="N")
    ] = "auto"
    batch_tokens: Annotated[int, count_option("--batch-tokens", help="Tokens per batch: prompts and answers, with padding.", panel=RUN)] = (
        16_384
    )
    max_tokens_total: Annotated[
        int | None, count_option("--max-tokens-total", help="Stop after N tokens of prompts and answers; a higher N continues.", panel=RUN)
    ] = None

    def settings(self, *, max_errors: int | None = 0, retry_failed: bool = False, shard: Shard | None = None) -> JobSettings:
        """Settings of the job loop. max_errors: failed rows that are allowed; None allows any number. shard: the part to answer."""
        from llmkit.jobs.settings import JobSettings

        return JobSettings(
            batch_size=rows_a_batch(self.batch_size), batch_tokens=self.batch_tokens, max_errors=max_errors, retry_failed=retry_failed,
            max_time=self.max_seconds, max_tokens=self.max_tokens_total, shard=shard,
        )  # fmt: skip


@group
class AnswerJobOptions(JobOptions):
    """How rows are batched, when a job stops, and what happens to rows that failed."""

    max_errors: MaxErrors = None
    shard: Annotated[
        str | None,
        option("--shard", help="Answer part I of N; 'llmkit gather OUT' joins the parts.", panel=RUN, metavar="I/N", parser=shard),
    ] = None
    retry_failed: Annotated[bool, option("--retry-failed", help="Run the failed rows of a finished output again.", panel=RUN)] = False

    @property
    def part(self) -> Shard | None:
        """The shard that this run answers."""
        from llmkit.jobs.shards import parse_shard

        return None if self.shard is None else parse_shard(self.shard)

    @property
    def job(self) -> JobSettings:
        """Settings of the job loop."""
        return self.settings(max_errors=self.max_errors, retry_failed=self.retry_failed, shard=self.part)
