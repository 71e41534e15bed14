"""`llmkit translate`: translate a text, the lines of a file, a field of its rows, or a document, and report what may be lost.

llmkit translate "Good morning." --to fr
llmkit translate -i lines.txt -o lines.fr.txt --to fr
llmkit translate -i talk.srt -o talk.fr.srt --to fr
llmkit translate -i test.jsonl --to fr | llmkit evaluate bleu -i -
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add, identity, options_set_by_user, refuse
from llmkit.cli.decoding import AnswerOptions
from llmkit.cli.help import Page
from llmkit.cli.inputs import NEEDS_FILE, only_with_input, output_of, read_prompt
from llmkit.cli.jobs import AnswerJobOptions
from llmkit.cli.parsing import DECODING, INPUT, MODEL, SHOW, count_option, option
from llmkit.cli.parsing import language as language_name
from llmkit.cli.running import job_for, model_identity, models_open, summarize, tell_no_rows, tell_speed
from llmkit.cli.servers import refuse_without_server
from llmkit.engines.utilization import measured
from llmkit.errors import RowsFailedError, UsageError, counted
from llmkit.rows import Row, Rows, open_rows
from llmkit.rows.fields import SourceFields
from llmkit.translation.documents.formats import BECOMES, BINARY, DECLARED, INSTEAD, holds_rows, is_document, open_document
from llmkit.translation.documents.rows import DocumentWriter, document_rows

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.decoding import Decoding
    from llmkit.jobs.outcome import Tally
    from llmkit.jobs.output import Output, Writer
    from llmkit.jobs.run import JobSettings, RunName
    from llmkit.jobs.workers import WorkerSettings
    from llmkit.tasks.route import Route, RouteSettings
    from llmkit.tasks.translate import Translating
    from llmkit.translation.documents.base import Document
    from llmkit.translation.glossary import Glossary
    from llmkit.translation.languages import Language

app = typer.Typer(add_completion=False)

DEFAULT = "builtin:en-fr"
#: Rows from which --from auto detects the language of a file.
_SAMPLE = 50
#: Options of gettext catalogs.
_ABOUT_CATALOGS = ("retranslate_fuzzy", "mark_fuzzy")
#: Options that do not apply to a list of languages.
_ABOUT_ANSWERS = (
    "num_beams", "max_new_tokens", "length_penalty", "n_best", "scores", "glossary", "json_output", "output_format", "chat_template",
)  # fmt: skip


_OUT = opt.AnswersOut(output_field="translation")
_MODEL = opt.ModelOptions(model=DEFAULT)


#: A call that a message shows.
_EXAMPLE = 'llmkit translate "Good morning" --to fr'
_PAGE = Page(
    ('llmkit translate "Good morning" --to fr', "llmkit translate -i talk.srt -o talk.fr.srt --to fr -m org/model"),
    ("source", "target", "input", "output", "text_field", "model", "device", "languages"),
    "translate",
)


@add(app, "translate", help="Translate a text, rows of a file, or a document, and report what may be lost.", page=_PAGE)
def translate(
    ctx: typer.Context,
    *,
    text: Annotated[list[str] | None, opt.text_argument("TEXT")] = None,
    source: Annotated[
        str | None,
        option("--from", help="Source language: a name or a code; auto detects it.", panel=INPUT, metavar="LANGUAGE", parser=language_name),
    ] = None,
    target: Annotated[str | None, option("--to", help="Target language.", panel=INPUT, metavar="LANGUAGE", parser=language_name)] = None,
    languages: Annotated[bool, option("--languages", help="List the languages of the model, and exit.", panel=SHOW)] = False,
    model: opt.ModelOptions = _MODEL,
    rows_in: opt.RowsIn,
    text_field: opt.TextField = None,
    rows_out: opt.AnswersOut = _OUT,
    answers: AnswerOptions,
    length_penalty: opt.LengthPenalty = 1.0,
    n_best: Annotated[int, count_option("--n-best", help="Return the N best translations of each text.", panel=DECODING)] = 1,
    scores: Annotated[
        bool, option("--scores", help="Also write the mean log-probability of each translation's tokens.", panel=DECODING)
    ] = False,
    glossary: Annotated[
        str | None,
        option("--glossary", help="Terms and their translations: .csv or .tsv of two columns, or .tbx.", panel=DECODING, metavar="FILE"),
    ] = None,
    retranslate_fuzzy: Annotated[
        bool, option("--retranslate-fuzzy", help="In a .po file, also translate entries that are marked fuzzy.", panel=INPUT)
    ] = False,
    mark_fuzzy: Annotated[
        bool, option("--mark-fuzzy", help="In a .po file, mark new translations fuzzy, for a reviewer.", panel=INPUT)
    ] = False,
    pivot: Annotated[
        str | None,
        option(
            "--pivot",
            help="Translate into this language first, then into the target.",
            panel=DECODING,
            metavar="LANGUAGE",
            parser=language_name,
        ),
    ] = None,
    pivot_model: Annotated[
        str | None,
        option("--pivot-model", help="The model for the second step of a pivot. [default: the same]", panel=MODEL, metavar="REF"),
    ] = None,
    chat: opt.TemplateOptions,
    job: AnswerJobOptions,
    display: opt.Display,
) -> int:
    """Translates one text to stdout, or the rows or document of `--input`."""
    out = display.console
    from llmkit.jobs.run import file_job
    from llmkit.tasks.route import RouteSettings
    from llmkit.tasks.translate import TranslationOptions
    from llmkit.translation.families import check_ends
    from llmkit.translation.languages import language

    input, output, output_field = rows_in.input, rows_out.output, rows_out.output_field
    settings = job.job
    to_file = None if output == "-" or input is None else output
    _check_forms(ctx, input, to_file, languages)
    refuse_without_server(ctx, model.model)
    _check_pivot(pivot, pivot_model, n_best, scores)
    pivot_language = None if pivot is None else language(pivot, "--pivot")
    source_language = None if source in (None, "auto") else language(source or "", "--from")
    target_language = None if target is None else language(target)
    check_ends(source_language, pivot_language or target_language)
    named = None if target_language is None else target_language.tag
    rows, document = (None, None) if input is None else _open(ctx, rows_in, output, model.offline, named)
    if fuzzy := getattr(document, "fuzzy", 0):
        out.notice(f"entries marked fuzzy, left unchanged: {fuzzy:,}; --retranslate-fuzzy translates them")
    terms = _glossary(glossary, source_language, target_language)
    wanted = RouteSettings(
        source_language, target_language, source == "auto", answers.num_beams, length_penalty, answers.max_new_tokens,
        TranslationOptions(output_field, document.keep if document else None, terms, n_best, scores),
        settings.batch_size, settings.batch_tokens,
    )  # fmt: skip
    prompt = "" if input is not None or languages else read_prompt(text, _EXAMPLE, out, rows_in.encoding)
    if document is not None:
        refuse(ctx, ("shard", "output_format"), "applies to rows, not to documents", hint="remove it")
    as_json = rows_out.for_one() if input is None else False
    write = _writer(rows_out, rows, document, to_file, model.model, several=n_best > 1, extra="scores" if scores else None)
    known, conversation = identity(ctx, "translate"), chat.settings
    with (
        output_of(
            to_file, input or "", known, overwrite=rows_out.overwrite, restart=job.restart, answer=output_field, write=write,
            shard=settings.shard,
        ) as job_target,
        _open_route(model, conversation, wanted, (pivot_language, pivot_model), job.crew, out) as route,
    ):  # fmt: skip
        if languages:
            return _list(route.first)
        task = _task(route, wanted, rows, prompt, text_field, out)
        if rows is None:
            return _one(task, prompt, as_json or display.json_output, out)
        settings = job_for(route.first, settings)
        if job_target is None:
            return _summary(_to_stdout(rows, task, settings, write, out), task, rows, out)
        run = _run_name(ctx, known, route, task)
        return _summary(file_job(rows, task, settings, job_target, out, run), task, rows, out, job_target)


@contextmanager
def _open_route(
    model: opt.ModelOptions, chat: ChatSettings, wanted: RouteSettings, pivot: tuple[Language | None, str | None],
    workers: WorkerSettings | None, out: console.Console,
) -> Iterator[Route]:  # fmt: skip
    """The model, and the one of a pivot's second step, open until the end of the block. Raises what `models_open` raises.

    pivot: the language, and the model of the second step; None for the same model.
    """
    from llmkit.jobs.worker import Model
    from llmkit.models.reference import reads_all
    from llmkit.tasks.route import Route

    call, (language, second) = model.settings, pivot
    first = Model(call, model.engine, _known(wanted, reads_all=reads_all(call.reference)), chat)
    models = [first]
    if language is not None and second is not None:
        models.append(replace(first, settings=replace(call, reference=second, adapter=None)))
    with models_open(models, workers, out, default=DEFAULT) as engines:
        yield Route(engines[0], language, engines[-1])


def _task(route: Route, wanted: RouteSettings, rows: Rows | None, prompt: str, field: str | None, out: console.Console) -> Translating:
    """The task that translates the rows, or the one text `prompt`. Raises what `translating` raises."""
    from llmkit.tasks.route import translating

    name = "the text" if rows is None else rows.name
    sample = prompt
    if rows is not None:
        sample = _sample(rows, field) if wanted.detect else ""
    return translating(route, wanted, sample=sample, text_field=field, file_name=name, notice=out.notice)


def _run_name(ctx: typer.Context, known: dict[str, Any], route: Route, task: Translating) -> RunName:
    """The run as its record names it. known: the identity by the options alone."""
    from llmkit.jobs.run import RunName

    options = options_set_by_user(ctx, leave=("overwrite", "restart", "retry_failed", "max_time"))
    return RunName("translate", options, known | model_identity(route.first) | _resolved(route, task), partial(measured, route.first))


def _known(wanted: RouteSettings, *, reads_all: bool) -> Decoding:
    """How translations are decoded, as far as it counts for the choice of an engine.

    reads_all: by an encoder-decoder. What a causal model translates ends with the line.
    """
    from llmkit.engines.decoding import Decoding

    best = wanted.options.best
    return Decoding(
        num_beams=wanted.num_beams or max(4 if reads_all else 1, best),
        num_samples=best,
        length_penalty=wanted.length_penalty,
        logprobs=wanted.options.scored,
        stop=() if reads_all else ("\n",),
    )


def _glossary(path: str | None, source: Language | None, target: Language | None) -> Glossary | None:
    from llmkit.translation.glossary_files import read_glossary

    return None if path is None else read_glossary(path, source, target)


def _check_pivot(pivot: str | None, pivot_model: str | None, n_best: int, scores: bool) -> None:
    if pivot is None and pivot_model is not None:
        raise UsageError("--pivot-model needs --pivot", hint="name the pivot language with --pivot")
    if pivot is not None and (n_best > 1 or scores):
        raise UsageError("--n-best and --scores cannot be combined with --pivot", hint="use only one of them")


def _check_forms(ctx: typer.Context, input: str | None, to_file: str | None, languages: bool) -> None:
    """Refuses what this form of the command would ignore. to_file: the output, None for standard output. Raises UsageError."""
    if input is not None and not languages:
        refuse(ctx, ("text", "json_output"), "cannot be combined with --input", hint="use only one of them")
    if input is None:
        only_with_input(ctx)
        refuse(ctx, _ABOUT_CATALOGS, "applies to .po files", hint="remove it")
    if to_file is None:
        refuse(ctx, NEEDS_FILE, "needs --output", hint="remove it, or add -o FILE")
    if languages:
        refuse(ctx, ("text", "input", "source", "target", "pivot", "pivot_model", *_ABOUT_ANSWERS), "cannot be combined with --languages")


def _open(ctx: typer.Context, rows_in: opt.RowsIn, output: str | None, offline: bool, target: str | None) -> tuple[Rows, Document | None]:
    """The rows of a file; of a document its segments. Raises InputError or UsageError."""
    input = rows_in.input or ""
    if not is_document(input) or rows_in.input_format != "auto" or holds_rows(input):
        refuse(ctx, _ABOUT_CATALOGS, "applies to .po files", hint="remove it")
        if rows_in.input_format == "auto" and (hint := INSTEAD.get(Path(input).suffix.lower())):
            raise UsageError(f"{input}: {Path(input).suffix} documents are not read", hint=hint)
        return open_rows(input, **rows_in.reading, offline=offline), None
    ending = Path(input).suffix.lower()
    if output not in (None, "-") and Path(output or "").suffix.lower() not in (*BECOMES.get(ending, (ending,)), ".jsonl"):
        raise UsageError(f"a {ending} document is translated into one", hint=f"--output NAME{ending}, or .jsonl for its segments as rows")
    if ending in BINARY and output in (None, "-"):
        raise UsageError(f"a {ending} file cannot be written to standard output", hint=f"name a file with --output NAME{ending}")
    refuse(ctx, ("limit", "text_field", "n_best"), "applies to rows, not to documents", hint="remove it")
    if output in (None, "-") or is_document(output or ""):
        refuse(ctx, ("output_field", "scores"), "applies to rows, not to documents", hint="--output NAME.jsonl writes the segments as rows")
    else:
        refuse(ctx, ("mark_fuzzy",), "applies to .po files, not to rows", hint="remove it")
    if ending in BINARY | DECLARED:
        refuse(ctx, ("encoding",), f"does not apply to a {ending} file", hint="remove it")
    if ending not in (".po", ".pot"):
        refuse(ctx, _ABOUT_CATALOGS, "applies to .po files", hint="remove it")
    how = {name: True for name in _ABOUT_CATALOGS if ctx.params[name]} if ending in (".po", ".pot") else {}
    document, data = open_document(input, target, rows_in.encoding, **how)
    return document_rows(document, data, input), document


def _one(task: Translating, text: str, as_json: bool, out: console.Console) -> int:
    """One text to stdout; a failed check is an error with exit code 3."""
    direction = task.direction
    work = task.prepare(Row(0, None, {"text": text}))
    if work.error is not None:
        raise work.error
    begun = time.monotonic()
    (answered,) = task.answer([work])
    tell_speed(task.engine, answered.tokens, time.monotonic() - begun, out)
    _tell_left(task, out)
    answer: dict[str, Any] = {**answered.fields, **({} if answered.error is None else {"error": answered.error})}
    if as_json:
        about = {"text": text, "from": direction.source.tag if direction.source else None, "to": (task.onward or task).direction.target.tag}
        console.write(json.dumps(about | answer, ensure_ascii=False) + "\n")
    else:
        texts = answer.get("translations", [answer[task.options.output_field]])
        score = f"{answer['score']:.4f}\t" if "score" in answer else ""
        console.write("".join(score + line.rstrip("\n") + "\n" for line in texts))
    if "error" in answer:
        raise RowsFailedError(f"the translation may be incomplete: {answer['error']}")
    return 0


def _resolved(route: Route, task: Translating) -> dict[str, Any]:
    """What the run's identity needs beside options and model: languages that were detected or are a model's own, the second model."""
    first, last = task.direction, (task.onward or task).direction
    facts = {"resolved.from": first.source.tag if first.source else None, "resolved.to": last.target.tag}
    if task.onward is not None:
        facts |= {"resolved.pivot": first.target.tag, **{f"model.pivot.{k}": v for k, v in route.second.identity.as_dict().items()}}
    return {name: value for name, value in facts.items() if value is not None}


def _summary(tally: Tally, task: Translating, rows: Rows, out: console.Console, output: Output | None = None) -> int:
    if tally.rows == 0:
        tell_no_rows(rows, out)
        return 0
    _tell_left(task, out)
    if task.tried_again:
        out.notice(f"{counted(task.tried_again, 'piece was', 'pieces were')} split and translated again")
    return summarize(tally, task.engine, out, output, answer=task.options.output_field)


def _tell_left(task: Translating, out: console.Console) -> None:
    if task.there_already:
        language = (task.onward or task).direction.target.name
        out.notice(f"already in {language}, so left unchanged: {counted(task.there_already, 'sentence')}")


def _writer(
    rows_out: opt.AnswersOut, rows: Rows | None, document: Document | None, path: str | None, model: str, *, several: bool,
    extra: str | None,
) -> Writer | None:  # fmt: skip
    """What makes the bytes of the file `path`, or of standard output; None for the format of the file's ending. Raises UsageError."""
    if document is not None:
        return DocumentWriter(document, rows_out.output_field) if path is None or is_document(path) else None
    if path is not None:
        return rows_out.writer(path, model, rows_out.output_field, several=several, extra=extra)
    return None if rows is None else rows_out.stream(model, rows_out.output_field, lines=rows.plain, several=several, extra=extra)


def _to_stdout(rows: Rows, task: Translating, settings: JobSettings, form: Writer | None, out: console.Console) -> Tally:
    """Rows one at a time; a document as itself, once it is complete."""
    from llmkit.jobs.outcome import Tally
    from llmkit.jobs.run import answered, stream_job

    if not isinstance(form, DocumentWriter):
        return stream_job(rows, task, settings, out, console.write, form)
    tally = Tally()
    answers = [outcome.line() for outcome in answered(rows, task, settings, out, tally)]
    for data in form(answers):
        console.write_bytes(data)
    tally.refuse(form.refused)
    return tally


def _sample(rows: Rows, field: str | None) -> str:
    """The text of the first rows, which stay in the stream."""
    fields = SourceFields(field)

    def texts() -> Iterator[str]:
        for row in rows.peek(_SAMPLE):
            if row.error is None and (text := fields.prompt(row, rows.name).text):
                yield text

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
