"""`llmkit translate`: translate a text, the lines of a file, a field of its rows, or a document, and report what may be lost.

llmkit translate "Good morning." --to fr
llmkit translate -i lines.txt -o lines.fr.txt --to fr
llmkit translate -i talk.srt -o talk.fr.srt --to fr
llmkit translate -i test.jsonl --to fr | llmkit evaluate bleu -i -
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add, identity, options_set_by_user
from llmkit.cli.decoding import AnswerOptions
from llmkit.cli.help import Page
from llmkit.cli.inputs import output_of, read_prompt
from llmkit.cli.jobs import AnswerJobOptions
from llmkit.cli.running import model_identity, models_open, summarize, tell_no_rows, tell_speed
from llmkit.cli.servers import refuse_without_server
from llmkit.cli.translating import (
    CatalogOptions,
    LanguageOptions,
    TranslationAnswers,
    open_rows_or_document,
    refuse_other_forms,
)
from llmkit.engines.utilization import measured
from llmkit.errors import RowsFailedError, counted
from llmkit.rows import Row, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from llmkit.engines.base import Engine
    from llmkit.engines.chat import ChatSettings
    from llmkit.jobs.outcome import Answer, Tally
    from llmkit.jobs.output import Output, Writer
    from llmkit.jobs.settings import JobSettings
    from llmkit.jobs.workers import WorkerSettings
    from llmkit.tasks.route import RouteSettings
    from llmkit.tasks.translate import Translating

app = typer.Typer(add_completion=False)

_DEFAULT = "builtin:en-fr"
#: A call that a message shows.
_EXAMPLE = 'llmkit translate "Good morning" --to fr'
_MODEL = opt.ModelOptions(model=_DEFAULT)
_PAGE = Page(
    (_EXAMPLE, "llmkit translate -i talk.srt -o talk.fr.srt --to fr -m org/model"),
    ("source", "target", "input", "output", "text_field", "model", "device", "languages"),
    "translate",
)


@add(app, "translate", help="Translate a text, rows of a file, or a document, and report what may be lost.", page=_PAGE)
def translate(
    ctx: typer.Context,
    *,
    text: Annotated[list[str] | None, opt.text_argument("TEXT")] = None,
    languages: LanguageOptions,
    model: opt.ModelOptions = _MODEL,
    rows_in: opt.TextsIn,
    text_field: opt.TextField = None,
    rows_out: opt.TranslationsOut,
    answers: AnswerOptions,
    length_penalty: opt.LengthPenalty = 1.0,
    several: TranslationAnswers,
    catalogs: CatalogOptions,
    chat: opt.TemplateOptions,
    job: AnswerJobOptions,
    display: opt.Display,
) -> int:
    """Translates one text to stdout, or the rows or document of `--input`."""
    from llmkit.tasks.route import RouteSettings

    out, input, settings = display.console, rows_in.input, job.job
    path = None if rows_out.output == "-" or input is None else rows_out.output
    refuse_other_forms(ctx, input, path)
    refuse_without_server(ctx, model.model)
    source, target, pivot = languages.read()
    rows = document = None
    if input is not None:
        rows, document = open_rows_or_document(ctx, rows_in, rows_out.output, offline=model.offline, target=target, notice=out.notice)
        rows_out.check_ids(rows)
    options = several.options(rows_out.output_field, document, source, target)
    route = RouteSettings(
        source, target, languages.detect, pivot, options, answers.num_beams, length_penalty, answers.max_new_tokens,
        settings.batch_size, settings.batch_tokens,
    )  # fmt: skip
    call = _Call(model, chat.settings, route, job.crew, out)
    if languages.languages:
        return call.list_languages()
    if rows is None:
        text_read = read_prompt(text, _EXAMPLE, out, rows_in.encoding)
        return call.translate_one(text_read, as_json=rows_out.for_one() or display.json_output)
    write = several.writer(rows_out, rows, document, path, model.model)
    given, known = options_set_by_user(ctx, leave=("overwrite", "restart", "retry_failed", "max_time")), identity(ctx, "translate")
    with output_of(
        path, input or "", known, overwrite=rows_out.overwrite, restart=job.restart, answer=rows_out.output_field, write=write,
        shard=settings.shard,
    ) as file:  # fmt: skip
        return call.translate_rows(rows, text_field, settings, file or write, given, known)


@dataclass(frozen=True)
class _Call:
    """What the forms of the command share."""

    model: opt.ModelOptions
    chat: ChatSettings
    route: RouteSettings
    workers: WorkerSettings | None
    out: console.Console

    def open(self, workers: WorkerSettings | None = None) -> AbstractContextManager[list[Engine]]:
        """The engines of the models, here or in workers, open until the end of the block. Raises what `models_open` raises."""
        from llmkit.engines.registry import Model
        from llmkit.tasks.route import models_of

        models = models_of(Model(self.model.settings, self.model.engine, chat=self.chat), self.route)
        return models_open(models, workers, self.out, default=_DEFAULT)

    def list_languages(self) -> int:
        """The model's languages on stdout: which side of a translation, tag, name, and the model's own code."""
        from llmkit.translation.families import family

        with self.open() as (engine, *_):
            known = family(engine.facts())
        if not known.sources and not known.targets:
            console.write(f"{known.name}: the model does not say which languages it knows\n")
            return 0
        sides = ((known.sources, "from"), (known.targets, "to")) if known.sources != known.targets else ((known.targets, "both"),)
        for codes, side in sides:
            for lang, code in codes:
                console.write(f"{side}\t{lang.tag}\t{lang.name}\t{code}\n")
        return 0

    def translate_one(self, text: str, *, as_json: bool) -> int:
        """One text to stdout; a failed check is an error with exit code 3."""
        from llmkit.tasks.route import translating

        with self.open() as engines:
            task = translating(engines, self.route, sample=text, notice=self.out.notice)
            work = task.prepare(Row(0, None, {"text": text}))
            if work.error is not None:
                raise work.error
            begun = time.monotonic()
            (answered,) = task.answer([work])
            tell_speed(task.engine, answered.tokens, time.monotonic() - begun, self.out)
        _tell_left(task, self.out)
        _print_one(text, task, answered, as_json=as_json)
        if answered.error is not None:
            raise RowsFailedError(f"the translation may be incomplete: {answered.error}")
        return 0

    def translate_rows(
        self, rows: Rows, text_field: str | None, settings: JobSettings, into: Output | Writer | None, given: Mapping[str, Any],
        known: Mapping[str, Any],
    ) -> int:  # fmt: skip
        """The rows, or a document's segments, into a file or onto stdout. given: the user's options; known: the identity by options.

        Returns the exit code.
        """
        from llmkit.jobs.output import Output
        from llmkit.jobs.run import RunName, run_job
        from llmkit.tasks.route import sample_of, translating

        out = self.out
        with self.open(self.workers) as engines:
            sample = sample_of(rows, text_field) if self.route.detect else ""
            task = translating(engines, self.route, sample=sample, text_field=text_field, file_name=rows.name, notice=out.notice)
            engine = task.engine
            run = RunName("translate", given, {**known, **model_identity(engine), **task.facts()}, partial(measured, engine))
            tally = run_job(rows, task, settings.for_engine(engine), into, out, run, console.write_bytes)
            return _summary(tally, task, rows, out, into if isinstance(into, Output) else None)


def _print_one(text: str, task: Translating, answered: Answer, *, as_json: bool) -> None:
    answer = {**answered.fields, **({} if answered.error is None else {"error": answered.error})}
    if as_json:
        source, target = task.ends
        about = {"text": text, "from": source.tag if source else None, "to": target.tag}
        console.write(json.dumps(about | answer, ensure_ascii=False) + "\n")
        return
    texts = answer.get("translations", [answer[task.options.output_field]])
    score = f"{answer['score']:.4f}\t" if "score" in answer else ""
    console.write("".join(score + line.rstrip("\n") + "\n" for line in texts))


def _summary(tally: Tally, task: Translating, rows: Rows, out: console.Console, output: Output | None) -> int:
    if tally.rows == 0:
        tell_no_rows(rows, out)
        return 0
    _tell_left(task, out)
    if task.tried_again:
        out.notice(f"{counted(task.tried_again, 'piece was', 'pieces were')} split and translated again")
    return summarize(tally, task.engine, out, output, answer=task.options.output_field)


def _tell_left(task: Translating, out: console.Console) -> None:
    if task.there_already:
        out.notice(f"already in {task.ends[1].name}, so left unchanged: {counted(task.there_already, 'sentence')}")
