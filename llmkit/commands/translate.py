"""`llmkit translate`: a text, the lines of a file, or a field of its rows, with nothing lost in silence.

llmkit translate "Good morning." --to fr
llmkit translate -i lines.txt -o lines.fr.txt --to fr
llmkit translate -i test.jsonl --to fr | llmkit evaluate bleu -i -
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import __version__, console
from llmkit import options as opt
from llmkit.commands.inputs import only_with_input, output_of, read_prompt
from llmkit.commands.running import open_model, summarise
from llmkit.engines.decoding import Decoding
from llmkit.errors import RowsFailedError, UsageError
from llmkit.rows import Row, Rows, open_rows
from llmkit.rows.fields import SourceFields

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.jobs.loop import JobSettings
    from llmkit.jobs.output import Output
    from llmkit.jobs.translating import Translating
    from llmkit.translation.families import Direction, Family
    from llmkit.translation.languages import Language

app = typer.Typer(add_completion=False)

DEFAULT = "builtin:en-fr"
#: Rows from which --from auto tells the language of a file.
_SAMPLE = 50


@app.command("translate", help="A text, the lines of a file, or a field of its rows, with nothing lost in silence.", no_args_is_help=False)
def translate(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="The text; - or a pipe is read from standard input.", show_default=False)] = None,
    source: Annotated[
        str | None,
        opt.option("--from", help="Its language: a name or a code; auto tells it from the text.", panel=opt.INPUT, metavar="LANGUAGE"),
    ] = None,
    target: Annotated[str | None, opt.option("--to", help="The language wanted.", panel=opt.INPUT, metavar="LANGUAGE")] = None,
    languages: Annotated[bool, opt.option("--languages", help="List what the model can translate, and exit.", panel=opt.SHOW)] = False,
    model: opt.Model = DEFAULT,
    adapter: opt.Adapter = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = "none",
    offline: opt.Offline = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    input: opt.Input = None,
    output: opt.Output = None,
    input_format: opt.InputFormat = "auto",
    encoding: opt.Encoding = "utf-8",
    limit: opt.Limit = None,
    text_field: opt.TextField = None,
    output_field: opt.OutputField = "translation",
    overwrite: opt.Overwrite = False,
    num_beams: opt.OptionalNumBeams = None,
    length_penalty: opt.LengthPenalty = 1.0,
    max_new_tokens: opt.MaxNewTokens = None,
    chat_template: opt.ChatTemplate = "auto",
    batch_size: opt.BatchSize = "auto",
    batch_tokens: opt.BatchTokens = 16_384,
    max_errors: opt.MaxErrors = None,
    retry_failed: opt.RetryFailed = False,
    restart: opt.Restart = False,
    max_time: opt.MaxTime = None,
    json_output: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
    config: opt.Config = None,
) -> int:
    out = console.Console(quiet, verbose)
    from llmkit.jobs.loop import JobSettings
    from llmkit.models.loading import ModelSettings
    from llmkit.translation.languages import language

    settings = JobSettings(opt.batch_size(batch_size), batch_tokens, max_errors, retry_failed, opt.duration(max_time))
    asked = _Asked(
        None if source in (None, "auto") else language(source or "", "--from"),
        None if target is None else language(target),
        source == "auto",
        {"num_beams": num_beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens},
        output_field,
        settings,
        out,
    )
    if input is not None and (text is not None or json_output):
        what = "--json" if json_output else "a text"
        raise UsageError(f"{what} is for one text, and --input gives many", hint="leave one of them away")
    if input is None:
        only_with_input(ctx)
    rows = None if input is None else open_rows(input, format=input_format, encoding=encoding, limit=limit, offline=offline)
    given = None if input is not None or languages else read_prompt(text, 'llmkit translate "Good morning" --to fr')
    job_target = output_of(None if output == "-" else output, input or "", overwrite=overwrite, restart=restart, answer=output_field)
    try:
        from llmkit.engines.chat import ChatSettings

        call = ModelSettings(model, adapter, device, dtype, offline, trust_remote_code, quantize)
        engine = open_model(call, out, default=DEFAULT, chat=ChatSettings(chat_template))
        if languages:
            return _list(engine)
        if rows is None:
            return _one(engine, asked, given or "", json_output)
        leave = ("overwrite", "restart", "retry_failed", "max_time")
        return _many(engine, asked, rows, text_field, job_target, opt.given(ctx, leave=leave))
    finally:
        if job_target is not None:
            job_target.release()


@dataclass(frozen=True)
class _Asked:
    source: Language | None
    target: Language | None
    detect: bool
    decoding: dict[str, Any]
    output_field: str
    settings: JobSettings
    out: console.Console

    def direction(self, family: Family, sample: str) -> Direction:
        """Raises UsageError for languages that the model can't do, InputError for a text without letters."""
        from llmkit.translation.languages import detect

        source = self.source
        if self.detect:
            source = detect(sample)
            self.out.notice(f"the text is {source.name} ({source.tag})")
        return family.direction(source, self.target)

    def task(self, engine: Engine, direction: Direction, field: str | None, name: str) -> Translating:
        from llmkit.jobs.translating import Translating

        beams = self.decoding["num_beams"] or (4 if engine.encoder_decoder else 1)
        penalty = self.decoding["length_penalty"]
        decoding = Decoding(num_beams=beams, length_penalty=penalty, max_new_tokens=self.decoding["max_new_tokens"] or _room(engine))
        return Translating(
            engine, decoding, direction, SourceFields(field), self.output_field, name,
            batch_size=self.settings.batch_size, batch_tokens=self.settings.batch_tokens,
        )  # fmt: skip


def _room(engine: Engine) -> int:
    return min(engine.context or 1024, 1024)


def _one(engine: Engine, asked: _Asked, text: str, as_json: bool) -> int:
    """One text to stdout; what a check objects to is said, and is exit code 3."""
    from llmkit.translation.families import family

    direction = asked.direction(family(engine.facts()), text)
    task = asked.task(engine, direction, None, "the text")
    work = task.prepare(Row(0, None, {"text": text}))
    if work.error is not None:
        raise work.error
    (answer,) = task.answer([work])
    if as_json:
        about = {"text": text, "from": direction.source.tag if direction.source else None, "to": direction.target.tag}
        console.write(json.dumps(about | answer, ensure_ascii=False) + "\n")
    else:
        console.write(answer[asked.output_field].rstrip("\n") + "\n")
    if "error" in answer:
        raise RowsFailedError(f"something may be lost: {answer['error']}")
    return 0


def _many(engine: Engine, asked: _Asked, rows: Rows, field: str | None, output: Output | None, options: dict[str, Any]) -> int:
    from llmkit.jobs.loop import check_finished, file_job, stream_job
    from llmkit.translation.families import family

    sample = _sample(rows, field) if asked.detect else ""
    direction = asked.direction(family(engine.facts()), sample)
    task = asked.task(engine, direction, field, rows.name)
    if output is None:
        tally = stream_job(rows, task, asked.settings, asked.out)
    else:
        identity: dict[str, Any] = {"llmkit": __version__, "command": "translate", "output_field": asked.output_field, "text_field": field}
        identity |= {"from": direction.source.tag if direction.source else None, "to": direction.target.tag}
        identity |= {"batch_size": asked.settings.batch_size or "auto", "batch_tokens": asked.settings.batch_tokens}
        identity |= {f"decoding.{k}": list(v) if isinstance(v, tuple) else v for k, v in task.decoding.record().items()}
        identity |= {f"model.{k}": v for k, v in engine.description.items()}
        identity = {k: v for k, v in identity.items() if v is not None}
        check_finished(output, asked.settings, identity)
        tally = file_job(rows, task, asked.settings, output, asked.out, command="translate", options=options, identity=identity)
    if tally.rows == 0:
        asked.out.notice(f"no rows in {rows.name}")
        return 0
    if task.tried_again:
        asked.out.notice(f"{task.tried_again:,} pieces were tried again in smaller ones")
    return summarise(tally, engine, asked.out)


def _sample(rows: Rows, field: str | None) -> str:
    """The text of the first rows, which stay in the stream."""
    fields = SourceFields(field)

    def texts() -> Iterator[str]:
        for row in rows.peek(_SAMPLE):
            if row.error is None and (found := fields.prompt(row, rows.name).text):
                yield found

    return "\n".join(texts())


def _list(engine: Engine) -> int:
    from llmkit.translation.families import family

    known = family(engine.facts())
    if not known.sources and not known.targets:
        console.write(f"{known.name}: the model does not say which languages it knows\n")
        return 0
    sides = ((known.sources, "from"), (known.targets, "to")) if known.sources != known.targets else ((known.targets, "both"),)
    for codes, side in sides:
        for lang, code in codes:
            console.write(f"{side}\t{lang.tag}\t{lang.name}\t{code}\n")
    return 0
