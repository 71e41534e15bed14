"""The options that commands share, each declared once, in groups that belong together.

A command's signature is a list of these groups (`llmkit.cli.command.add` turns them into options). Knows names, defaults
and help; what an option does is the business of the settings that a group builds.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli.config import load_config
from llmkit.cli.parsing import (
    DECODING,
    INPUT,
    MODEL,
    SHOW,
    choice_option,
    count_option,
    device,
    encoding,
    engine,
    field_option,
    group,
    json_object,
    number_option,
    option,
    text_format,
    text_formats,
)
from llmkit.cli.servers import ServerOptions
from llmkit.errors import UsageError
from llmkit.models.builtin import DEFAULT
from llmkit.rows.reading import FORMATS, Rows

if TYPE_CHECKING:
    from llmkit.engines.chat import ChatSettings
    from llmkit.jobs.output import Writer
    from llmkit.models.settings import ModelSettings

DTYPES = ("auto", "float32", "bfloat16", "float16")
OUTPUT_FORMATS = ("auto", "text", "jsonl", "csv", "tsv", "openai-batch")
DTYPE_ALIASES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "half": "float16"}
_STOP = "End before this text; repeatable ($'\\n': line end)."
_WEIGHTS = "builtin:NAME, folder, .gguf, org/name[@revision]"

Output = Annotated[str | None, option("--output", "-o", help="Output file or folder.", panel=INPUT, metavar="PATH")]
Folder = Annotated[str | None, option("--output", "-o", help="Folder for the result.", panel=INPUT, metavar="FOLDER")]
Overwrite = Annotated[bool, option("--overwrite", help="Replace an existing output.", panel=INPUT)]
Template = Annotated[str | None, option("--template", help='Prompt from row fields: "Summarize: {text}".', panel=INPUT, metavar="TEXT")]
TextField = Annotated[str | None, field_option("--text-field", help="Field that holds the text.", panel=INPUT)]
PromptField = Annotated[str | None, field_option("--prompt-field", help="Field that holds the prompt.", panel=INPUT)]
MaxNewTokens = Annotated[int | None, count_option("--max-new-tokens", help="Maximum number of new tokens. [default: 128]", panel=DECODING)]
LengthPenalty = Annotated[float, number_option("--length-penalty", help="Beam search: above 0 favors longer answers.", panel=DECODING)]
Temperature = Annotated[float, number_option("--temperature", help="0 is greedy; above 0 samples.", panel=DECODING)]
TopK = Annotated[int | None, count_option("--top-k", help="Sample from the K most likely tokens.", panel=DECODING)]
TopP = Annotated[float | None, number_option("--top-p", help="Sample from tokens of total probability P.", panel=DECODING)]
MinP = Annotated[
    float | None, number_option("--min-p", help="Drop tokens below P times the probability of the most likely one.", panel=DECODING)
]
Seed = Annotated[int, count_option("--seed", help="Random seed, 0 to 2^64 - 1.", panel=DECODING)]
Stop = Annotated[list[str] | None, option("--stop", help=_STOP, panel=DECODING, metavar="TEXT")]
DebugFlag = Annotated[bool, option("--debug", help="Show tracebacks of errors.", panel=SHOW)]
JsonFlag = Annotated[bool, option("--json", help="One JSON object on stdout.", panel=SHOW)]
Dtype = Annotated[str, choice_option("--dtype", help="Precision.", panel=MODEL, values=DTYPES, aliases=DTYPE_ALIASES)]
Adapter = Annotated[str | None, option("--adapter", help="A LoRA adapter: a folder or a hub id.", panel=MODEL, metavar="REF")]
ChatTemplate = Annotated[str, option("--chat-template", help="auto (the model's, if it has one), none, or a Jinja file.", panel=DECODING)]
ChatTemplateKwargs = Annotated[
    str | None,
    option(
        "--chat-template-kwargs", help='Values for the chat template: {"enable_thinking": false}.', panel=DECODING, metavar="JSON",
        parser=json_object,
    ),
]  # fmt: skip


def text_argument(name: str) -> Any:
    """The positional text of a command that answers one text or many rows."""
    return typer.Argument(
        metavar=f"[{name}] [-]", help=f"The {name.lower()}. - reads it from standard input; other text follows it.", show_default=False
    )


@group
class Reference:
    """Which model, of those whose weights are here or on a hub."""

    model: Annotated[str, option("--model", "-m", help=f"{_WEIGHTS}.", panel=MODEL, metavar="REF")] = DEFAULT


@group
class Trust:
    """Whether Python code that comes with a model may run."""

    trust_remote_code: Annotated[bool, option("--trust-remote-code", help="Run Python code that comes with the model.", panel=MODEL)] = (
        False
    )


@group
class Access(Trust):
    """What a reference may reach: the network, and code that comes with a model."""

    offline: Annotated[bool, option("--offline", help="Use no network (also HF_HUB_OFFLINE=1).", panel=MODEL)] = False


@group
class Precision:
    """Where a model computes, and how exactly."""

    device: Annotated[
        str,
        option(
            "--device",
            help="auto, cpu, cuda[:N], mps or xpu[:N].",
            panel=MODEL,
            parser=device,
            metavar="NAME",
            autocompletion=lambda: ["auto", "cpu", "cuda", "mps", "xpu"],
        ),
    ] = "auto"
    dtype: Dtype = "auto"
    quantize: Annotated[
        str, choice_option("--quantize", help="Weights in 8 or 4 bits (int4 is NF4).", panel=MODEL, values=("none", "int8", "int4"))
    ] = "none"
    threads: Annotated[int | None, count_option("--threads", help="Threads on a CPU. [default: all cores]", panel=MODEL)] = None


@group
class EngineName:
    """Which engine runs the model."""

    engine: Annotated[str, option("--engine", help="auto, torch, or ctranslate2 (CPU).", panel=MODEL, metavar="NAME", parser=engine)] = (
        "auto"
    )


@group
class Placement(Access, Precision, ServerOptions, EngineName):
    """How a model is opened, whichever it is."""

    adapter: Adapter = None
    device_map: Annotated[
        str,
        option("--device-map", help="auto: spread a large model over devices, memory and disk.", panel=MODEL, metavar="auto|FILE"),
    ] = "none"

    def settings_of(self, reference: str) -> ModelSettings:
        """How the model `reference` is opened under these options."""
        from llmkit.models.settings import ModelSettings

        return ModelSettings(
            reference=reference, adapter=self.adapter, device=self.device, dtype=self.dtype, offline=self.offline,
            trust_remote_code=self.trust_remote_code, quantize=self.quantize, threads=self.threads, server=self.server,
            device_map=self.device_map,
        )  # fmt: skip


@group
class ModelOptions(Placement, Reference):
    """Which model, where and how exactly."""

    model: Annotated[str, option("--model", "-m", help=f"{_WEIGHTS}, openai:NAME.", panel=MODEL, metavar="REF")] = DEFAULT

    @property
    def settings(self) -> ModelSettings:
        """How the chosen model is opened."""
        return self.settings_of(self.model)


@group
class RowFormat:
    """How rows are read, and how many."""

    input_format: Annotated[
        str,
        choice_option("--input-format", help="Format of the rows.", panel=INPUT, values=("auto", *FORMATS)),
    ] = "auto"
    encoding: Annotated[
        str, option("--encoding", help="Character encoding of the input.", panel=INPUT, parser=encoding, metavar="NAME")
    ] = "utf-8"
    limit: Annotated[int | None, count_option("--limit", help="Only the first N rows.", panel=INPUT)] = None

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `open_rows`."""
        return {"format": self.input_format, "encoding": self.encoding, "max_rows": self.limit}


_ROWS = "Rows: .txt .jsonl .json .csv .tsv .parquet (also .gz), org/name:split, or -"
Inputs = Annotated[list[str] | None, option("--input", "-i", help=f"{_ROWS} (repeatable).", panel=INPUT, metavar="FILE")]


@group
class _Input:
    input: Annotated[str | None, option("--input", "-i", help=f"{_ROWS}.", panel=INPUT, metavar="FILE")] = None


@group
class RowsIn(RowFormat, _Input):
    """The rows that a command reads."""


@group
class TextsIn(RowsIn):
    """The rows or the document to translate."""

    input: Annotated[
        str | None,
        option("--input", "-i", help="Rows (.txt .jsonl .csv ...), a document (.md .srt .docx ...), or -.", panel=INPUT, metavar="FILE"),
    ] = None
    input_format: Annotated[
        str,
        option(
            "--input-format", help=f"Format of rows ({', '.join(FORMATS)}) or of a document (md, html, srt, ...).", panel=INPUT,
            parser=text_format, metavar="NAME", autocompletion=text_formats,
        ),
    ] = "auto"  # fmt: skip


@group
class RowsOut:
    """The file for rows beside a result, which is on standard output."""

    output: Annotated[str | None, option("--output", "-o", help="Scored rows: a .jsonl file.", panel=INPUT, metavar="FILE")] = None
    overwrite: Overwrite = False


@group
class AnswersOut(RowsOut):
    """The file for the answers, and their field."""

    output: Annotated[
        str | None, option("--output", "-o", help="Answers: .jsonl, .txt, .csv or .tsv; - is stdout.", panel=INPUT, metavar="FILE")
    ] = None
    output_field: Annotated[str, option("--output-field", help="The field that receives the answer.", panel=INPUT, metavar="NAME")] = "text"
    output_format: Annotated[
        str | None,
        choice_option(
            "--output-format", help="How answers are written. [default: auto, by the file's ending]", panel=INPUT, values=OUTPUT_FORMATS
        ),
    ] = None

    def for_one(self) -> bool:
        """Whether one answer is printed as a JSON object. Raises UsageError for a format of many rows."""
        if self.output_format in (None, "auto", "text", "jsonl"):
            return self.output_format == "jsonl"
        raise UsageError(f"--output-format {self.output_format} needs --input", hint="add -i FILE, or use jsonl")

    def writer(self, path: str, model: str, answer: str, *, several: bool, extra: str | None) -> Writer | None:
        """What makes the bytes of the file `path`; None for what its ending stands for.

        answer: the field with the answer. several: each row has more than one. extra: an option that adds fields to it. Raises
        UsageError for both in a text file.
        """
        from llmkit.jobs.output import FORMAT_NAMES, writer_of

        named = None if self.output_format == "auto" else self.output_format
        ending = Path(path).suffix.lower()
        if several and (named or ending) in ("text", ".txt"):
            raise UsageError(f"{path}: text holds one answer per line, and each row has several", hint="name a .jsonl output")
        if extra and (named or ending) in ("text", ".txt"):
            raise UsageError(f"{path}: text holds the answers alone, without what `{extra}` adds", hint="name a .jsonl output")
        if named is None or FORMAT_NAMES.get(named) == ending:
            return None
        return writer_of(Path(path), answer, named, model)

    def check_ids(self, rows: Rows) -> None:
        """Has rows refused whose answers could not be told apart."""
        from llmkit.jobs.openai_batch import NAME, DistinctIds

        if self.output_format == NAME:
            rows.watch(DistinctIds(rows.name))

    def stream(self, model: str, answer: str, *, lines: bool, several: bool, extra: str | None) -> Writer:
        """What makes the bytes of rows on standard output: as text where they were lines of text, else as JSON lines.

        answer, several and extra: as for `writer`; no line of text holds the last two. Raises UsageError.
        """
        from llmkit.jobs.output import stream_writer

        if self.output_format == "text" and several:
            raise UsageError("--output-format text holds one answer per line, and each row has several", hint="use jsonl")
        if self.output_format == "text" and extra:
            raise UsageError(f"--output-format text holds the answers alone, without what `{extra}` adds", hint="use jsonl")
        if self.output_format in (None, "auto"):
            return stream_writer("text" if lines and not (several or extra) else "jsonl", answer)
        return stream_writer(str(self.output_format), answer, model)


@group
class TranslationsOut(AnswersOut):
    """The file for the translations."""

    output: Annotated[
        str | None,
        option(
            "--output", "-o", help="Rows: .jsonl .txt .csv .tsv; of a document, its own format; - is stdout.", panel=INPUT, metavar="FILE"
        ),
    ] = None
    output_field: Annotated[str, option("--output-field", help="The field that receives the translation.", panel=INPUT, metavar="NAME")] = (
        "translation"
    )


@group
class TemplateOptions:
    """Which chat template messages go through, and what it is shown beside them."""

    chat_template: ChatTemplate = "auto"
    chat_template_kwargs: ChatTemplateKwargs = None

    @cached_property
    def settings(self) -> ChatSettings:
        """Raises UsageError for values that are not a template's to be shown, InputError for a file that can't be read."""
        from llmkit.engines.chat import ChatSettings

        return ChatSettings(self.chat_template, self._message(), json.loads(self.chat_template_kwargs or "{}"))

    def _message(self) -> str | None:
        return None


@group
class _System:
    system: Annotated[str | None, option("--system", "-s", help="System message for a chat model.", panel=DECODING, metavar="TEXT")] = None


@group
class ChatOptions(TemplateOptions, _System):
    """How a prompt becomes a conversation: by a template, with the system message before it."""

    def _message(self) -> str | None:
        return self.system


@group
class Debug:
    """Whether errors show their traceback."""

    debug: DebugFlag = False


@group
class Quiet(Debug):
    """Whether notices are shown."""

    quiet: Annotated[bool, option("--quiet", "-q", help="Warnings and errors only.", panel=SHOW)] = False

    @property
    def console(self) -> console.Console:
        """The console that these options ask for."""
        return console.Console(self.quiet)


@group
class Json:
    """Whether the result is one JSON object."""

    json_output: JsonFlag = False


@group
class Display(Quiet, Json):
    """What a person sees, and options from a file."""

    verbose: Annotated[bool, option("--verbose", "-v", help="Show more details.", panel=SHOW)] = False
    config: Annotated[
        str | None,
        option(
            "--config",
            help="Options from a TOML or YAML file or a run record.",
            panel=SHOW,
            metavar="FILE",
            is_eager=True,
            callback=load_config,
        ),
    ] = None

    @property
    def console(self) -> console.Console:
        """The console that these options ask for."""
        return console.Console(self.quiet, self.verbose)


@group
class JsonDebug(Debug, Json):
    """For commands that print a table or JSON and say nothing else."""


@group
class JsonQuiet(Quiet, Json):
    """For commands that print a result and a few notices."""
