"""A model's answers to rows that have references, for `llmkit evaluate score -m MODEL`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from llmkit.cli import console
from llmkit.cli.commands.evaluate.reporting import rows_output
from llmkit.cli.scoring import CacheOptions, MetricOptions, PairedOptions
from llmkit.cli.session import Session
from llmkit.errors import RowsFailedError, counted
from llmkit.metrics.examples import ReferencedFields
from llmkit.rows import Rows

if TYPE_CHECKING:
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.decoding import Decoding
    from llmkit.jobs.settings import JobSettings
    from llmkit.jobs.workers import WorkerSettings
    from llmkit.models.settings import ModelSettings

#: Options that decide the number made of the answers, not the answers.
_OF_THE_METRIC = {field.name for group in (MetricOptions, PairedOptions) for field in fields(group)}


@dataclass(frozen=True)
class Target:
    """Where the answered rows go, and what is known of the run before the model is loaded.

    options: those that were given, for the run record; identity: see `llmkit.records.identity`.
    """

    output: str | None
    input: str
    overwrite: bool
    restart: bool
    options: Mapping[str, Any]
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Answers:
    """A model's answers to rows, by the job loop. decoding: fields of `Decoding`."""

    model: ModelSettings
    engine: str
    rows: Rows
    settings: JobSettings
    fields: ReferencedFields
    decoding: Mapping[str, Any]
    chat: ChatSettings
    cache: CacheOptions
    out: console.Console
    kept: Session | None
    workers: WorkerSettings | None = None

    def _decoding(self, beams: int) -> Decoding:
        """The settings of the answers. beams: where no number was chosen."""
        from llmkit.engines.decoding import Decoding

        chosen = self.decoding["num_beams"]
        return Decoding(**{**self.decoding, "num_beams": beams if chosen is None else chosen})

    def to(self, target: Target) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The answered rows, and what is known of the model. Raises RowsFailedError for a row that could not be answered."""
        from llmkit.cli.running import model_identity, models_open, summarize
        from llmkit.engines.registry import Model
        from llmkit.engines.utilization import measured
        from llmkit.jobs.run import RunName, answer_rows
        from llmkit.tasks.generate import Answering

        self._decoding(1)  # refused before the model is loaded
        answered: list[dict[str, Any]] = []
        model = Model(self.model, self.engine, chat=self.chat)
        with (
            rows_output(target.output, target.input, target.identity, overwrite=target.overwrite, restart=target.restart) as output,
            models_open([model], self.workers, self.out, kept=self.kept) as (engine,),
        ):
            usual = 4 if engine.encoder_decoder and not self.decoding["temperature"] else 1
            decoding = self._decoding(usual)
            settings = self.settings.for_engine(engine)
            task = Answering(engine, decoding, self.fields, "prediction", self.rows.name)
            identity = {**target.identity, **model_identity(engine)}
            run = RunName("evaluate score", target.options, identity, partial(measured, engine))
            key = {name: value for name, value in run.identity.items() if name not in _OF_THE_METRIC}
            with self.cache.over(task, engine, key, self.out, by_place=decoding.samples) as asked:
                tally = answer_rows(self.rows, asked, settings, output, self.out, run, lambda row, _: answered.append(row))
        if task.unused and not engine.encoder_decoder:
            what = "the column 'system' beside a source names a translator, so the model does not read it"
            self.out.warn(f"{self.rows.name}: {what}", hint="--system TEXT gives the model a system message")
        summarize(tally, engine, self.out, output)
        if tally.failed:
            bare = counted(tally.failed, "row has", "rows have")
            raise RowsFailedError(f"{bare} no answer, so there is no score; the first: {tally.first_error}")
        return answered, {
            "input": self.rows.name,
            "input_sha256": self.rows.sha256,
            **engine.identity.as_dict(),
            "decoding": decoding.record(),
        }
