"""`llmkit generate`: generate text from a prompt, or for each row of a file.

llmkit generate "Once upon a time" --temperature 0.8 --echo
cat notes.txt | llmkit generate "Summarize:" - -m org/chat-model
llmkit generate -i prompts.jsonl -o answers.jsonl -m gpt2 --num-beams 5 --no-repeat-ngram-size 2
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
from llmkit.cli.command import add, identity, options_set_by_user, refuse
from llmkit.cli.decoding import DecodingOptions
from llmkit.cli.help import Page
from llmkit.cli.inputs import NEEDS_FILE, only_with_input, output_of, read_prompt, remark_escapes
from llmkit.cli.jobs import AnswerJobOptions
from llmkit.cli.parsing import DECODING, RUN, SHOW, count_option, option
from llmkit.cli.running import job_for, model_identity, models_open, open_model, summarize, tell_no_rows, tell_speed
from llmkit.cli.servers import refuse_without_server
from llmkit.engines.decoding import Decoding
from llmkit.engines.utilization import measured
from llmkit.errors import ModelError, counted
from llmkit.jobs.outcome import answer_field
from llmkit.rows import Rows, open_rows
from llmkit.rows.fields import Prompt, PromptFields
from llmkit.tasks.generate import Answering, answer_of

if TYPE_CHECKING:
    from llmkit.engines.base import Engine, TextEngine
    from llmkit.engines.chat import ChatSettings
    from llmkit.jobs.outcome import Tally
    from llmkit.jobs.output import Output, Writer
    from llmkit.jobs.run import JobSettings
    from llmkit.jobs.workers import WorkerSettings
    from llmkit.models.generation_defaults import GenerationDefaults
    from llmkit.models.settings import ModelSettings

app = typer.Typer(add_completion=False)


_PAGE = Page(
    ('llmkit generate "Once upon a time" --temperature 0.8', "llmkit generate -i prompts.jsonl -o answers.jsonl -m org/model"),
    ("model", "input", "output", "template", "max_new_tokens", "temperature", "num_beams", "stop", "system"),
    "generate",
)  # fmt: skip


@add(app, "generate", help="Generate text from a prompt, or for each row of a file.", page=_PAGE)
def generate(
    ctx: typer.Context,
    *,
    prompt: Annotated[list[str] | None, opt.text_argument("PROMPT")] = None,
    model: opt.ModelOptions,
    rows_in: opt.RowsIn,
    template: opt.Template = None,
    prompt_field: opt.PromptField = None,
    rows_out: opt.AnswersOut,
    decode: DecodingOptions,
    chat: opt.ChatOptions,
    continue_last: Annotated[
        bool, option("--continue", help="Continue a conversation's last message when it is the assistant's.", panel=DECODING)
    ] = False,
    echo: Annotated[bool, option("--echo", help="Print the prompt before its answer.", panel=SHOW)] = False,
    job: AnswerJobOptions,
    verify_batching: Annotated[
        int, count_option("--verify-batching", help="Run N rows again, one at a time, and report differences.", panel=RUN)
    ] = 0,
    display: opt.Display,
) -> int:
    """Answers one prompt on stdout, or each row of `--input`."""
    out = display.console
    remark_escapes(ctx, out, ("stop", "template", "system"))
    refuse_without_server(ctx, model.model)
    own = _generation_defaults(model.settings, out) if decode.generation_config == "model" else None
    call = Call(model.settings, model.engine, decode.decoding(ctx, own), chat.settings, out, own)
    input, output, output_field = rows_in.input, rows_out.output, rows_out.output_field
    if input is None:
        only_with_input(ctx)
        as_json = rows_out.for_one() or display.json_output
        if not as_json:
            refuse(ctx, ("logprobs",), "needs --json or --input", hint="add --json; text alone holds no log-probabilities")
        text = read_prompt(prompt, 'llmkit generate "Once upon a time"', out, rows_in.encoding)
        return _one_prompt(call, text, json_output=as_json, echo=echo)
    refuse(ctx, ("json_output",), "cannot be combined with --input", hint="--output-format jsonl writes a line of JSON per row")
    hint = '--template "Summarize: {text}" puts words around each row'
    refuse(ctx, ("prompt", "echo"), "cannot be combined with --input", hint=hint)
    path = None if output == "-" else output
    if path is None:
        refuse(ctx, NEEDS_FILE, "needs --output", hint="remove it, or add -o FILE")
    settings, workers = job.job, job.crew
    fields = PromptFields(template, prompt_field, continue_last=continue_last)
    rows = open_rows(input, **rows_in.reading, text_field="prompt", offline=model.offline)
    known = identity(ctx, "generate")
    run = _Job(
        call,
        rows,
        fields,
        output_field,
        settings,
        verify_batching,
        rows_in.limit,
        options_set_by_user(ctx, leave=("overwrite", "restart", "retry_failed", "max_time")),
        known,
        workers,
    )
    several, extra = call.decoding.num_samples > 1, "logprobs" if call.decoding.logprobs else None
    answer = answer_field(output_field, several=several)
    write = None if path is None else rows_out.writer(path, model.model, answer, several=several, extra=extra)
    with output_of(
        path, input, known, overwrite=rows_out.overwrite, restart=job.restart, answer=answer, write=write, shard=settings.shard
    ) as target:
        return run.answer(target or rows_out.stream(model.model, answer, lines=rows.plain, several=several, extra=extra))


@dataclass(frozen=True)
class Call:
    """What both forms of the command share."""

    model: ModelSettings
    engine_name: str
    decoding: Decoding
    chat: ChatSettings
    out: console.Console
    own: GenerationDefaults | None = None

    def engine(self) -> Engine:
        """Opens the model, and the draft model where one is named. Raises what `open_model` raises."""
        draft = self.decoding.draft_model
        return open_model(self.model, self.out, engine=self.engine_name, decoding=self.decoding, chat=self.chat, draft=draft)

    def identity(self, engine: TextEngine) -> dict[str, Any]:
        """What the model adds to the identity of a run: itself, and its own settings where they are in force."""
        out = model_identity(engine)
        if self.own is not None:
            out["resolved.generation_config"] = {n: list(v) if isinstance(v, tuple) else v for n, v in sorted(self.own.values.items())}
        return out


def _generation_defaults(model: ModelSettings, out: console.Console) -> GenerationDefaults:
    """What the model's own generation_config.json asks for; says what that is."""
    from llmkit.models.generation_defaults import FILE, GenerationDefaults, generation_defaults
    from llmkit.models.reference import locate

    place = locate(model.reference, offline=model.offline, trust_remote_code=model.trust_remote_code, tell=out.notice)
    own = generation_defaults(place.folder)
    if own is None:
        out.warn(f"{model.reference} has no {FILE}; the defaults apply")
        return GenerationDefaults()
    shown = ", ".join(f"{name} {value}" for name, value in own.values.items())
    out.notice(f"{FILE}: {shown or 'sets nothing'}; options of the command line take precedence")
    if own.unused:
        out.warn(f"{FILE}: not used: {', '.join(own.unused)}")
    return own


def _one_prompt(call: Call, prompt: str, *, json_output: bool, echo: bool) -> int:
    engine = call.engine()
    request = engine.make_request(Prompt(text=prompt), call.decoding)
    if request.truncated:
        call.out.warn(f"{counted(request.truncated, 'token of the prompt was', 'tokens of the prompt were')} cut")
    begun = time.monotonic()
    one_stream = call.decoding.num_beams == 1 and call.decoding.num_samples == 1
    if json_output or not one_stream:
        answers = engine.generate([request], call.decoding)[0]
    else:
        if echo:
            console.write(prompt)
        answers = [engine.stream(request, call.decoding, console.write)]
    if failed := next((a.error for a in answers if a.error), None):
        raise ModelError(failed)
    if one_stream and not json_output:
        console.write("" if answers[0].text.endswith("\n") else "\n")
    tell_speed(engine, sum(a.completion_tokens for a in answers), time.monotonic() - begun, call.out)
    if json_output:
        console.write(json.dumps({"prompt": prompt} | dict(answer_of(answers, "text", call.decoding).fields), ensure_ascii=False) + "\n")
    elif not one_stream:
        for answer in answers:
            text = (prompt if echo else "") + answer.text
            console.write(text if text.endswith("\n") else text + "\n")
    return 0


@dataclass(frozen=True)
class _Job:
    call: Call
    rows: Rows
    fields: PromptFields
    output_field: str
    settings: JobSettings
    verify: int
    max_rows: int | None
    options: dict[str, Any]
    known: dict[str, Any]
    workers: WorkerSettings | None = None

    def answer(self, output: Output | Writer) -> int:
        """Answers the rows into an output, or onto standard output as a writer makes them. Returns the exit code."""
        from llmkit.jobs.output import Output
        from llmkit.jobs.run import RunName, file_job, stream_job
        from llmkit.jobs.worker import Model

        call = self.call
        model = Model(call.model, call.engine_name, call.decoding, call.chat, call.decoding.draft_model)
        with models_open([model], self.workers, call.out) as (engine,):
            task = self._task(engine)
            settings = job_for(engine, self.settings)
            if not isinstance(output, Output):
                return self._report(stream_job(self.rows, task, settings, call.out, console.write, output), task, None)
            run = RunName("generate", self.options, self.known | call.identity(engine), partial(measured, engine))
            return self._report(file_job(self.rows, task, settings, output, call.out, run), task, output)

    def _task(self, engine: Engine) -> Answering:
        return Answering(engine, self.call.decoding, self.fields, self.output_field, self.rows.name, verify=self.verify)

    def _report(self, tally: Tally, task: Answering, output: Output | None) -> int:
        out = self.call.out
        if tally.rows == 0:
            if self.max_rows != 0:
                tell_no_rows(self.rows, out)
            return 0
        if task.unused:
            names = ", ".join(sorted(task.unused))
            out.warn(f"settings in the rows that are not used: {names}; this command's options apply")
        if task.truncated:
            out.warn(f"{counted(task.truncated, 'prompt was', 'prompts were')} cut to fit the model's context")
        if self.verify:
            _report_verified(task, out)
        answer = answer_field(self.output_field, several=self.call.decoding.num_samples > 1)
        return summarize(tally, task.engine, out, output, answer=answer)


def _report_verified(task: Answering, out: console.Console) -> None:
    if task.unlike:
        rows = ", ".join(map(str, sorted(task.unlike)[:10]))
        out.warn(f"{len(task.unlike):,} of {counted(task.verified, 'row')} gave a different answer when run alone: rows {rows}")
    else:
        out.notice(f"{counted(task.verified, 'row')} gave the same answer when run alone")
