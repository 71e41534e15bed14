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
from llmkit.cli.running import model_identity, models_open, summarize, tell_no_rows, tell_speed
from llmkit.cli.servers import refuse_without_server, runs_on_server
from llmkit.engines.decoding import Decoding
from llmkit.engines.utilization import measured
from llmkit.errors import LlmkitError, ModelError, UsageError, counted
from llmkit.jobs.outcome import answer_field
from llmkit.rows.fields import Prompt, PromptFields
from llmkit.tasks.generate import Answering, answer_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from llmkit.engines.base import Completion, Engine, Request
    from llmkit.engines.chat import ChatSettings
    from llmkit.jobs.output import Output, Writer
    from llmkit.jobs.settings import JobSettings
    from llmkit.jobs.workers import WorkerSettings
    from llmkit.models.generation_defaults import GenerationDefaults
    from llmkit.models.settings import ModelSettings
    from llmkit.rows import Rows

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
    call = Call(model.settings, model.engine, decode.decoding(ctx, own), chat.settings, out, own, job.crew)
    input, output, output_field = rows_in.input, rows_out.output, rows_out.output_field
    if input is None:
        only_with_input(ctx)
        as_json = rows_out.for_one() or display.json_output
        if not as_json:
            refuse(ctx, ("logprobs",), "needs --json or --input", hint="add --json; text alone holds no log-probabilities")
        text = read_prompt(prompt, 'llmkit generate "Once upon a time"', out, rows_in.encoding)
        return call.answer_one(text, as_json=as_json, echo=echo)
    refuse(ctx, ("json_output",), "cannot be combined with --input", hint="--output-format jsonl writes a line of JSON per row")
    hint = '--template "Summarize: {text}" puts words around each row'
    refuse(ctx, ("prompt", "echo"), "cannot be combined with --input", hint=hint)
    path = None if output == "-" else output
    if path is None:
        refuse(ctx, NEEDS_FILE, "needs --output", hint="remove it, or add -o FILE")
    settings, decoding = job.job, call.decoding
    fields = PromptFields(template, prompt_field, continue_last=continue_last)
    from llmkit.rows import open_rows

    rows = open_rows(input, **rows_in.reading, text_field="prompt", offline=model.offline)
    rows_out.check_ids(rows)
    several, extra = decoding.num_samples > 1, "logprobs" if decoding.logprobs else None
    answer = answer_field(output_field, several=several)
    write: Writer | None
    if path is None:
        write = rows_out.stream(model.model, answer, lines=rows.plain, several=several, extra=extra)
    else:
        write = rows_out.writer(path, model.model, answer, several=several, extra=extra)
    given, known = options_set_by_user(ctx, leave=("overwrite", "restart", "retry_failed", "max_time")), identity(ctx, "generate")
    with output_of(
        path, input, known, overwrite=rows_out.overwrite, restart=job.restart, answer=answer, write=write, shard=settings.shard
    ) as file:
        return call.answer_rows(rows, fields, output_field, settings, file or write, given, known, verify=verify_batching)


@dataclass(frozen=True)
class Call:
    """What both forms of the command share."""

    model: ModelSettings
    engine_name: str
    decoding: Decoding
    chat: ChatSettings
    out: console.Console
    own: GenerationDefaults | None = None
    workers: WorkerSettings | None = None

    def open(self, workers: WorkerSettings | None = None) -> AbstractContextManager[list[Engine]]:
        """The engine of the model, here or in workers, open until the end of the block. Raises what `models_open` raises."""
        from llmkit.engines.registry import Model

        model = Model(self.model, self.engine_name, self.decoding, self.chat, self.decoding.draft_model)
        return models_open([model], workers, self.out)

    def answer_one(self, prompt: str, *, as_json: bool, echo: bool) -> int:
        """The answer to one prompt on stdout, as it comes where there is one. Raises ModelError for scores that are no numbers."""
        with self.open() as (engine,):
            request = engine.make_request(Prompt(text=prompt), self.decoding)
            if request.truncated:
                self.out.warn(f"{counted(request.truncated, 'token of the prompt was', 'tokens of the prompt were')} cut")
            begun = time.monotonic()
            streamed = not as_json and self.decoding.num_beams == self.decoding.num_samples == 1
            if streamed:
                if echo:
                    console.write(prompt)
                answers = [_streamed(engine, request, self.decoding)]
            else:
                answers = engine.generate([request], self.decoding)[0]
            if failed := next((a.error for a in answers if a.error), None):
                raise ModelError(failed)
            if streamed:
                console.write("" if answers[0].text.endswith("\n") else "\n")
            tell_speed(engine, sum(a.completion_tokens for a in answers), time.monotonic() - begun, self.out)
        if as_json:
            fields = {"prompt": prompt} | dict(answer_of(answers, "text", self.decoding).fields)
            console.write(json.dumps(fields, ensure_ascii=False) + "\n")
        elif not streamed:
            for answer in answers:
                text = (prompt if echo else "") + answer.text
                console.write(text if text.endswith("\n") else text + "\n")
        return 0

    def answer_rows(
        self, rows: Rows, fields: PromptFields, output_field: str, settings: JobSettings, into: Output | Writer | None,
        given: Mapping[str, Any], known: Mapping[str, Any], *, verify: int,
    ) -> int:  # fmt: skip
        """Answers rows into a file or onto stdout. given: the user's options; known: the identity by options; verify: rows run again.

        Returns the exit code.
        """
        from llmkit.jobs.output import Output
        from llmkit.jobs.run import RunName, run_job

        with self.open(self.workers) as (engine,):
            task = Answering(engine, self.decoding, fields, output_field, rows.name, verify=verify)
            run = RunName("generate", given, {**known, **self._identity(engine)}, partial(measured, engine))
            tally = run_job(rows, task, settings.for_engine(engine), into, self.out, run, console.write_bytes)
            if tally.rows == 0:
                tell_no_rows(rows, self.out)
                return 0
            _tell(task, self.out)
            answer = answer_field(output_field, several=self.decoding.num_samples > 1)
            return summarize(tally, engine, self.out, into if isinstance(into, Output) else None, answer=answer)

    def _identity(self, engine: Engine) -> dict[str, Any]:
        """What the model adds to the identity of a run: itself, and its own settings where they are in force."""
        out = model_identity(engine)
        if self.own is not None:
            out["resolved.generation_config"] = {n: list(v) if isinstance(v, tuple) else v for n, v in sorted(self.own.values.items())}
        return out


def _streamed(engine: Engine, request: Request, decoding: Decoding) -> Completion:
    """An answer that is shown as it comes. What is shown of one that breaks off ends its line before the error is told."""
    last = "\n"

    def write(part: str) -> None:
        nonlocal last
        console.write(part)
        last = part[-1:] or last

    try:
        return engine.stream(request, decoding, write)
    except LlmkitError:
        if last != "\n":
            console.write("\n")
        raise


def _generation_defaults(model: ModelSettings, out: console.Console) -> GenerationDefaults:
    """What the model's own generation_config.json asks for; says what that is."""
    from llmkit.models.generation_defaults import FILE, GenerationDefaults, generation_defaults
    from llmkit.models.reference import locate

    if runs_on_server(model.reference):
        message = f"--generation-config model reads the model's folder; {model.reference} is on a server"
        raise UsageError(message, hint="remove it, and give the options that you want, for example --temperature 0.7")
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


def _tell(task: Answering, out: console.Console) -> None:
    """What happened to rows beside their answers."""
    if task.unused:
        out.warn(f"settings in the rows that are not used: {', '.join(sorted(task.unused))}; this command's options apply")
    if task.truncated:
        out.warn(f"{counted(task.truncated, 'prompt was', 'prompts were')} cut to fit the model's context")
    if not task.verify:
        return
    if task.unlike:
        rows = ", ".join(map(str, sorted(task.unlike)[:10]))
        out.warn(f"{len(task.unlike):,} of {counted(task.verified, 'row')} gave a different answer when run alone: rows {rows}")
    else:
        out.notice(f"{counted(task.verified, 'row')} gave the same answer when run alone")
