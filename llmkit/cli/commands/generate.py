"""`llmkit generate`: text from a prompt, or an answer to every row of a file.

llmkit generate "Once upon a time" --temperature 0.8 --echo
cat notes.txt | llmkit generate "Summarise:" -m org/chat-model
llmkit generate -i prompts.jsonl -o answers.jsonl -m gpt2 --num-beams 5 --no-repeat-ngram-size 2
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.inputs import only_with_input, output_of, read_prompt
from llmkit.cli.running import model_identity, open_model, summarise
from llmkit.engines.decoding import Decoding
from llmkit.errors import ModelError, UsageError
from llmkit.models.builtin import DEFAULT
from llmkit.rows import Rows, open_rows
from llmkit.rows.fields import Prompt, PromptFields
from llmkit.tasks.generate import Answering, answer_of

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.jobs.outcome import Tally
    from llmkit.jobs.output import Output
    from llmkit.jobs.run import JobSettings
    from llmkit.models.settings import ModelSettings

app = typer.Typer(add_completion=False)


@app.command("generate", help="Text from a prompt, or an answer to every row of a file.", no_args_is_help=False)
def generate(
    ctx: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - or a pipe is read from standard input.", show_default=False)] = None,
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
    template: opt.Template = None,
    prompt_field: opt.PromptField = None,
    output_field: opt.OutputField = "text",
    overwrite: opt.Overwrite = False,
    max_new_tokens: opt.MaxNewTokens = None,
    max_length: opt.MaxLength = None,
    min_new_tokens: opt.MinNewTokens = 0,
    temperature: opt.Temperature = 0.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    min_p: opt.MinP = None,
    repetition_penalty: opt.RepetitionPenalty = 1.0,
    no_repeat_ngram_size: opt.NoRepeatNgramSize = 0,
    num_beams: opt.NumBeams = 1,
    length_penalty: opt.LengthPenalty = 1.0,
    num_samples: opt.NumSamples = 1,
    stop: opt.Stop = None,
    seed: opt.Seed = 0,
    prompt_lookup: opt.PromptLookup = None,
    draft_model: opt.DraftModel = None,
    json_schema: opt.JsonSchema = None,
    regex: opt.Regex = None,
    truncate: opt.Truncate = "none",
    logprobs: opt.Logprobs = False,
    system: opt.System = None,
    chat_template: opt.ChatTemplate = "auto",
    echo: Annotated[bool, opt.option("--echo", help="Print the prompt before its answer.", panel=opt.SHOW)] = False,
    batch_size: opt.BatchSize = "auto",
    batch_tokens: opt.BatchTokens = 16_384,
    max_errors: opt.MaxErrors = None,
    retry_failed: opt.RetryFailed = False,
    restart: opt.Restart = False,
    max_time: opt.MaxTime = None,
    verify_batching: opt.VerifyBatching = 0,
    json_output: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
    config: opt.Config = None,
) -> int:
    out = console.Console(quiet, verbose)
    decoding = Decoding(
        max_new_tokens=max_new_tokens,
        max_length=max_length,
        min_new_tokens=min_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        num_beams=num_beams,
        length_penalty=length_penalty,
        num_samples=num_samples,
        stop=tuple(stop or ()),
        seed=seed,
        prompt_lookup=prompt_lookup,
        draft_model=draft_model,
        json_schema=json_schema,
        regex=regex,
        truncate=truncate,
        logprobs=logprobs,
    )
    from llmkit.models.settings import ModelSettings

    call = Call(ModelSettings(model, adapter, device, dtype, offline, trust_remote_code, quantize), decoding, chat_template, system, out)
    if input is None:
        only_with_input(ctx)
        return _one_prompt(call, read_prompt(prompt, 'llmkit generate "Once upon a time"'), json_output=json_output, echo=echo)
    if prompt is not None or json_output or echo:
        what = "a prompt" if prompt is not None else "--json" if json_output else "--echo"
        raise UsageError(
            f"{what} is for one prompt, and --input gives many", hint='--template "Summarise: {text}" puts words around each row'
        )
    from llmkit.jobs.run import JobSettings

    settings = JobSettings(opt.batch_size(batch_size), batch_tokens, max_errors, retry_failed, opt.duration(max_time))
    fields = PromptFields(template, prompt_field)
    rows = open_rows(input, format=input_format, encoding=encoding, text_field="prompt", max_rows=limit, offline=offline)
    job = _Job(
        call,
        rows,
        fields,
        output_field,
        settings,
        verify_batching,
        limit,
        opt.given(ctx, leave=("overwrite", "restart", "retry_failed", "max_time")),
        opt.identity(ctx, "generate"),
    )
    if num_samples > 1 and output is not None and output.lower().endswith(".txt"):
        raise UsageError(f"--num-samples {num_samples}: a .txt output holds one answer a line", hint="name a .jsonl output")
    target = output_of(None if output == "-" else output, input, overwrite=overwrite, restart=restart, answer=output_field)
    if target is None:
        return job.to_stdout()
    try:
        return job.to_file(target)
    finally:
        target.release()


@dataclass(frozen=True)
class Call:
    """What both forms of the command share."""

    model: ModelSettings
    decoding: Decoding
    chat_template: str
    system: str | None
    out: console.Console

    def engine(self) -> Engine:
        from llmkit.engines.chat import ChatSettings

        return open_model(self.model, self.out, chat=ChatSettings(self.chat_template, self.system), draft=self.decoding.draft_model)


def _one_prompt(call: Call, prompt: str, *, json_output: bool, echo: bool) -> int:
    engine = call.engine()
    request = engine.prepare(Prompt(text=prompt), call.decoding)
    if request.truncated:
        call.out.warn(f"{request.truncated:,} tokens of the prompt were cut away")
    one_stream = call.decoding.num_beams == 1 and call.decoding.num_samples == 1
    if json_output or not one_stream:
        answers = engine.generate([request], call.decoding)[0]
    else:
        if echo:
            console.write(prompt)
        answers = [engine.stream(request, call.decoding, console.write)]
        console.write("" if answers[0].text.endswith("\n") else "\n")
    if failed := next((a.error for a in answers if a.error), None):
        raise ModelError(failed)
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
    limit: int | None
    options: dict[str, Any]
    known: dict[str, Any]

    def to_stdout(self) -> int:
        from llmkit.jobs.run import stream_job

        task = self._task(self.call.engine())
        return self._report(stream_job(self.rows, task, self.settings, self.call.out, console.write), task)

    def to_file(self, output: Output) -> int:
        from llmkit.jobs.run import RunName, check_finished, file_job

        check_finished(output, self.known)
        task = self._task(self.call.engine())
        run = RunName("generate", self.options, self.known | model_identity(task.engine))
        return self._report(file_job(self.rows, task, self.settings, output, self.call.out, run), task)

    def _task(self, engine: Engine) -> Answering:
        return Answering(engine, self.call.decoding, self.fields, self.output_field, self.rows.name, verify=self.verify)

    def _report(self, tally: Tally, task: Answering) -> int:
        out = self.call.out
        if tally.rows == 0:
            if self.limit != 0:
                out.notice(f"no rows in {self.rows.name}")
            return 0
        if task.truncated:
            out.warn(f"{task.truncated:,} prompts were cut to fit the model's context")
        if self.verify:
            _report_verified(task, out)
        return summarise(tally, task.engine, out)


def _report_verified(task: Answering, out: console.Console) -> None:
    if task.unlike:
        rows = ", ".join(map(str, sorted(task.unlike)[:10]))
        out.warn(f"{len(task.unlike):,} of {task.verified:,} rows answered again alone came out otherwise: rows {rows}")
    else:
        out.notice(f"{task.verified:,} rows answered again alone came out the same")
