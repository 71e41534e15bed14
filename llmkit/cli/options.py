"""Every shared option once, as an Annotated type: its names, environment variable, help and panel.

A command's signature is a list of these types with defaults. Knows option names; not what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

MODEL, INPUT, DECODING, SCORING, RUN, SHOW = "Model", "Input and output", "Decoding", "Scoring", "Run", "Display"
DATA, LORA, COURSE = "Data", "Adapter", "Optimization"


def option(*names: str, help: str, panel: str, callback: Callable[..., Any] | None = None, **more: Any) -> Any:
    """A Typer option whose environment variable follows from its long name: --top-p is LLMKIT_TOP_P."""
    long = next(n for n in names if n.startswith("--")).split("/")[0]
    variable = "LLMKIT_" + long.removeprefix("--").replace("-", "_").upper()
    return typer.Option(*names, help=help, rich_help_panel=panel, envvar=variable, show_envvar=False, callback=callback, **more)


def _load_config(ctx: typer.Context, value: str | None) -> str | None:
    if value is not None:
        from llmkit.cli.config import read_config

        known = {p.name: p.opts[0] for p in ctx.command.params if p.name}
        ctx.default_map = {**(ctx.default_map or {}), **read_config(value, ctx.command.name or "", known)}
    return value


def _count(value: Any) -> int | None:
    """A whole number, also as 10k, 2M or 1e3."""
    if value is None or isinstance(value, int):
        return value
    scale = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}.get(value[-1:].lower(), 1)
    try:
        number = float(value[:-1] if scale > 1 else value) * scale
        if number != int(number) or number < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"'{value}' is not a whole number of 0 or more (10k, 2M and 1e3 are)") from None
    return int(number)


def count_option(*names: str, help: str, panel: str) -> Any:
    return option(*names, help=help, panel=panel, parser=_count, metavar="N")


Model = Annotated[str, option("--model", "-m", help="builtin:NAME, a folder, or a hub id org/name[@revision].", panel=MODEL, metavar="REF")]
OptionalModel = Annotated[
    str | None, option("--model", "-m", help="Score what this model answers; without it, saved outputs.", panel=MODEL, metavar="REF")
]
Adapter = Annotated[str | None, option("--adapter", help="A LoRA adapter on top: a folder or a hub id.", panel=MODEL, metavar="REF")]
Device = Annotated[str, option("--device", help="auto, cpu, cuda[:N], mps or xpu.", panel=MODEL)]
Dtype = Annotated[str, option("--dtype", help="auto, float32, bfloat16 or float16.", panel=MODEL)]
Offline = Annotated[bool, option("--offline", help="Touch no network (also HF_HUB_OFFLINE=1).", panel=MODEL)]
TrustRemoteCode = Annotated[bool, option("--trust-remote-code", help="Run Python code that comes with the model.", panel=MODEL)]
Quantize = Annotated[str, option("--quantize", help="Weights in 8 or 4 bits: none, int8 or int4 (NF4).", panel=MODEL)]

Input = Annotated[
    str | None,
    option(
        "--input", "-i", help="Rows: .txt .jsonl .json .csv .tsv .parquet (also .gz), org/name:split, or -.", panel=INPUT, metavar="FILE"
    ),
]
Output = Annotated[
    str | None, option("--output", "-o", help="Where the answers go: .jsonl, .txt, .csv or .tsv; - is stdout.", panel=INPUT, metavar="FILE")
]
InputFormat = Annotated[str, option("--input-format", help="auto, or txt, jsonl, json, csv, tsv, parquet.", panel=INPUT)]
Encoding = Annotated[str, option("--encoding", help="Character encoding of the input.", panel=INPUT)]
Limit = Annotated[int | None, count_option("--limit", help="Only the first N rows.", panel=INPUT)]
Template = Annotated[
    str | None, option("--template", help='Makes the prompt from row fields: "Summarise: {text}".', panel=INPUT, metavar="TEXT")
]
PromptField = Annotated[str | None, option("--prompt-field", help="The field that holds the prompt.", panel=INPUT, metavar="NAME")]
OutputField = Annotated[str, option("--output-field", help="The field that receives the answer.", panel=INPUT, metavar="NAME")]
Overwrite = Annotated[bool, option("--overwrite", help="Replace an output that is there.", panel=INPUT)]

MaxNewTokens = Annotated[
    int | None, count_option("--max-new-tokens", help="At most so many tokens of answer. [default: 128]", panel=DECODING)
]
MaxLength = Annotated[
    int | None, count_option("--max-length", help="At most so many tokens of prompt and answer together.", panel=DECODING)
]
MinNewTokens = Annotated[int, count_option("--min-new-tokens", help="At least so many tokens of answer.", panel=DECODING)]
Temperature = Annotated[float, option("--temperature", help="0 is greedy; 1 samples from the model's own distribution.", panel=DECODING)]
TopK = Annotated[int | None, count_option("--top-k", help="Sample among the K likeliest tokens.", panel=DECODING)]
TopP = Annotated[float | None, option("--top-p", help="Sample among the likeliest tokens that make up probability P.", panel=DECODING)]
MinP = Annotated[float | None, option("--min-p", help="Drop tokens below P times the likeliest one's probability.", panel=DECODING)]
RepetitionPenalty = Annotated[float, option("--repetition-penalty", help="Above 1: tokens that occurred get less likely.", panel=DECODING)]
NoRepeatNgramSize = Annotated[int, count_option("--no-repeat-ngram-size", help="No N-gram of tokens occurs twice.", panel=DECODING)]
NumBeams = Annotated[int, count_option("--num-beams", help="Beam search with N beams.", panel=DECODING)]
OptionalNumBeams = Annotated[
    int | None, count_option("--num-beams", help="Beam search with N beams. [default: 4 for sequence-to-sequence models]", panel=DECODING)
]
LengthPenalty = Annotated[float, option("--length-penalty", help="Beam search: above 0 favours longer answers.", panel=DECODING)]
NumSamples = Annotated[int, count_option("--num-samples", "-n", help="N answers to each prompt.", panel=DECODING)]
Stop = Annotated[list[str] | None, option("--stop", help="End the answer before this text (repeatable).", panel=DECODING, metavar="TEXT")]
Seed = Annotated[int, option("--seed", help="The seed of sampling, 0 to 2^64 - 1.", panel=DECODING)]
PromptLookup = Annotated[
    int | None, count_option("--prompt-lookup", help="Speculate N tokens from the prompt's own n-grams.", panel=DECODING)
]
DraftModel = Annotated[str | None, option("--draft-model", help="Speculate with this smaller model.", panel=DECODING, metavar="REF")]
JsonSchema = Annotated[
    str | None,
    option("--json-schema", help="The answer is JSON of this schema (a file, or the JSON itself).", panel=DECODING, metavar="FILE|JSON"),
]
Regex = Annotated[str | None, option("--regex", help="The answer matches this regular expression.", panel=DECODING)]
Truncate = Annotated[str, option("--truncate", help="Prompts longer than the context: none (an error), left or right.", panel=DECODING)]
Logprobs = Annotated[bool, option("--logprobs", help="With each answer its tokens and their log-probabilities.", panel=DECODING)]
System = Annotated[str | None, option("--system", "-s", help="System message for a chat model.", panel=DECODING, metavar="TEXT")]
ChatTemplate = Annotated[str, option("--chat-template", help="auto (the model's, when it has one), none, or a Jinja file.", panel=DECODING)]

TextField = Annotated[str | None, option("--text-field", help="The field that holds the text.", panel=INPUT, metavar="NAME")]
ByLine = Annotated[bool, option("--by-line", help="Each line of a .txt file is a document; otherwise the file is one.", panel=INPUT)]
Concatenate = Annotated[bool, option("--concatenate", help="Join the documents with the model's separator.", panel=SCORING)]
CompletionOnly = Annotated[
    bool, option("--completion-only", help="Score completions (assistant turns) given what comes before.", panel=SCORING)
]
Context = Annotated[int | None, count_option("--context", help="Inputs of a window. [default: the model's context]", panel=SCORING)]
Stride = Annotated[int | None, count_option("--stride", help="New tokens each later window scores. [default: the context]", panel=SCORING)]
FailIf = Annotated[
    list[str] | None,
    option("--fail-if", help='Exit with 4 when it holds: "perplexity > 30" (repeatable).', panel=SCORING, metavar="CONDITION"),
]
Report = Annotated[
    list[str] | None, option("--report", help="Also write the result: .json, .md, .xml (JUnit) or .html.", panel=SHOW, metavar="FILE")
]
Plot = Annotated[
    str | None, option("--plot", help="Draw loss against parameters with a power law: .png, .svg or .pdf.", panel=SHOW, metavar="FILE")
]
Baseline = Annotated[
    str | None, option("--baseline", help="Compare with an earlier --report FILE.json of the same rows.", panel=SCORING, metavar="FILE")
]
MaxRegression = Annotated[
    str | None,
    option("--max-regression", help="Worse than the baseline by more than 2% or 0.5: exit with 4.", panel=SCORING, metavar="BOUND"),
]
Test = Annotated[str, option("--test", help="Significance: auto, bootstrap, randomization or mcnemar.", panel=SCORING)]
Predictions = Annotated[
    list[str] | None,
    option("--predictions", "-p", help="Saved outputs, a line each (repeatable with --paired-bs or -ar).", panel=INPUT, metavar="FILE"),
]
References = Annotated[
    list[str] | None,
    option("--references", "-r", help="References, a line a prediction (repeatable: several references).", panel=INPUT, metavar="FILE"),
]

Pivot = Annotated[
    str | None, option("--pivot", help="Translate into this language first, and from there on.", panel=DECODING, metavar="LANGUAGE")
]
PivotModel = Annotated[
    str | None, option("--pivot-model", help="The model of the second half of a pivot. [default: the same]", panel=MODEL, metavar="REF")
]
GlossaryFile = Annotated[
    str | None, option("--glossary", help="Terms and their translations, in two columns: .csv or .tsv.", panel=DECODING, metavar="FILE")
]
NBest = Annotated[int, count_option("--n-best", help="The N best translations of each text.", panel=DECODING)]
Scores = Annotated[bool, option("--scores", help="With each translation the mean log-probability of its tokens.", panel=DECODING)]

SourceField = Annotated[str | None, option("--source-field", help="The field that the model answers.", panel=INPUT, metavar="NAME")]
ReferenceField = Annotated[str | None, option("--reference-field", help="The field with the reference(s).", panel=INPUT, metavar="NAME")]
PredictionField = Annotated[str | None, option("--prediction-field", help="The field with the saved output.", panel=INPUT, metavar="NAME")]
_METRICS_HELP = "Comma-separated: bleu, chrf, ter, exact_match, accuracy, f1, wer, rouge, or a module of evaluate."
Metrics = Annotated[str, option("--metrics", help=_METRICS_HELP, panel=SCORING)]
PairedBs = Annotated[bool, option("--paired-bs", help="Several -p against the first: paired bootstrap.", panel=SCORING)]
PairedAr = Annotated[bool, option("--paired-ar", help="Several -p against the first: approximate randomization.", panel=SCORING)]
PairedBsN = Annotated[int, count_option("--paired-bs-n", help="Resamples of --paired-bs.", panel=SCORING)]
PairedArN = Annotated[int, count_option("--paired-ar-n", help="Trials of --paired-ar.", panel=SCORING)]
Tokenize = Annotated[
    str | None, option("--tokenize", "-tok", help="BLEU's tokenizer: 13a, intl, char, zh, ... [default: 13a]", panel=SCORING)
]
Lowercase = Annotated[bool, option("--lowercase", "-lc", help="BLEU and chrF without case.", panel=SCORING)]
SmoothMethod = Annotated[str, option("--smooth-method", help="BLEU: exp, floor, add-k or none.", panel=SCORING)]
SmoothValue = Annotated[float | None, option("--smooth-value", help="BLEU: for floor and add-k.", panel=SCORING)]
ChrfCharOrder = Annotated[int, count_option("--chrf-char-order", help="chrF: character n-grams up to N.", panel=SCORING)]
ChrfWordOrder = Annotated[int, count_option("--chrf-word-order", help="chrF: word n-grams up to N; 2 gives chrF++.", panel=SCORING)]
ChrfBeta = Annotated[int, count_option("--chrf-beta", help="chrF: weight of recall.", panel=SCORING)]
Confidence = Annotated[bool, option("--confidence", "-ci", help="95% intervals for BLEU, chrF and TER by bootstrap.", panel=SCORING)]
ConfidenceN = Annotated[int, count_option("--confidence-n", help="Resamples for --confidence.", panel=SCORING)]
Normalize = Annotated[
    str, option("--normalize", help="exact_match and f1: none, or some of unicode,case,punctuation,articles,space.", panel=SCORING)
]

Train = Annotated[str | None, option("--train", help="The training rows, instead of the argument.", panel=DATA, metavar="FILE")]
Valid = Annotated[str | None, option("--valid", help="Validation rows.", panel=DATA, metavar="FILE")]
ValidSplit = Annotated[
    str | None, option("--valid-split", help="Hold so many of the rows out for validation: 5%.", panel=DATA, metavar="SHARE")
]
CompletionField = Annotated[str | None, option("--completion-field", help="The field with what is learnt.", panel=DATA, metavar="NAME")]
FullLoss = Annotated[bool, option("--full-loss/--completion-only-loss", help="Learn prompts, too.", panel=DATA)]
RowLength = Annotated[
    int | None, count_option("--max-length", help="Longer rows are cut to N tokens. [default: the context, at most 2048]", panel=DATA)
]
Packing = Annotated[str, option("--packing", help="auto (several rows in one where the model allows) or off.", panel=DATA)]
DryRun = Annotated[bool, option("--dry-run", help="Check the data, time two steps, and write nothing.", panel=RUN)]
AdapterFolder = Annotated[str | None, option("--output", "-o", help="The folder for the result.", panel=INPUT, metavar="DIR")]

LoraR = Annotated[int, count_option("--lora-r", help="Rank of the adapter.", panel=LORA)]
LoraAlpha = Annotated[float | None, option("--lora-alpha", help="Its scale. [default: twice the rank]", panel=LORA)]
LoraDropout = Annotated[float, option("--lora-dropout", help="Share of its inputs that is dropped.", panel=LORA)]
TargetModules = Annotated[
    str | None, option("--target-modules", help="Comma-separated. [default: all linear layers of the blocks]", panel=LORA, metavar="NAMES")
]
Rslora = Annotated[bool, option("--rslora", help="Rank-stabilised scale.", panel=LORA)]
Dora = Annotated[bool, option("--dora", help="Weight-decomposed adaptation.", panel=LORA)]
Full = Annotated[bool, option("--full", help="Train all weights; the result is a model.", panel=LORA)]

Epochs = Annotated[float, option("--epochs", help="How often each row is seen.", panel=COURSE)]
MaxSteps = Annotated[int | None, count_option("--max-steps", help="So many steps, instead of epochs.", panel=COURSE)]
RowsABatch = Annotated[int, count_option("--batch-size", help="Rows at once.", panel=COURSE)]
GradAccum = Annotated[int, count_option("--grad-accum", help="Batches a step.", panel=COURSE)]
LearningRate = Annotated[
    float | None, option("--learning-rate", help="Of AdamW, at its highest. [default: 2e-4, with --full 2e-5]", panel=COURSE)
]
LrScheduler = Annotated[str, option("--lr-scheduler", help="linear, cosine, constant, constant-with-warmup or inverse-sqrt.", panel=COURSE)]
WarmupRatio = Annotated[float, option("--warmup-ratio", help="Share of the steps over which the rate rises.", panel=COURSE)]
WeightDecay = Annotated[float, option("--weight-decay", help="Of AdamW.", panel=COURSE)]
MaxGradNorm = Annotated[float, option("--max-grad-norm", help="Gradients are clipped to this norm; 0 does not clip.", panel=COURSE)]
Neftune = Annotated[float | None, option("--neftune", help="Noise on the embeddings (NEFTune's alpha; 5 is usual).", panel=COURSE)]
EarlyStopping = Annotated[
    int | None, count_option("--early-stopping", help="Stop after N evaluations without gain; keep the best.", panel=COURSE)
]
GradientCheckpointing = Annotated[bool, option("--gradient-checkpointing", help="Less memory, more time.", panel=COURSE)]
TrainingSeed = Annotated[int, option("--seed", help="Of the order of rows and the adapter's first weights.", panel=COURSE)]
SaveSteps = Annotated[
    int | None, count_option("--save-steps", help="Steps between checkpoints. [default: a tenth of the run, at most 500]", panel=RUN)
]
EvalSteps = Annotated[int | None, count_option("--eval-steps", help="Steps between evaluations. [default: as checkpoints]", panel=RUN)]
KeepCheckpoints = Annotated[int, count_option("--keep-checkpoints", help="So many of the newest stay.", panel=RUN)]
ReportTo = Annotated[
    list[str] | None, option("--report-to", help="A tracker that transformers knows: tensorboard, wandb, ... (repeatable).", panel=SHOW)
]

BatchSize = Annotated[str, option("--batch-size", help="Rows a batch: auto, or a number.", panel=RUN)]
BatchTokens = Annotated[int, count_option("--batch-tokens", help="Tokens a batch, prompt and answer, padding counted.", panel=RUN)]
MaxErrors = Annotated[int | None, count_option("--max-errors", help="Stop after more than N rows with errors.", panel=RUN)]
RetryFailed = Annotated[bool, option("--retry-failed", help="Run the rows of a finished output again that have an error.", panel=RUN)]
Restart = Annotated[bool, option("--restart", help="Drop what an unfinished run has done.", panel=RUN)]
MaxTime = Annotated[
    str | None, option("--max-time", help="Stop after 90s, 55m or 2h; the same command goes on.", panel=RUN, metavar="TIME")
]
VerifyBatching = Annotated[int, count_option("--verify-batching", help="Answer N rows again alone and report differences.", panel=RUN)]

Json = Annotated[bool, option("--json", help="One JSON object on stdout.", panel=SHOW)]
Quiet = Annotated[bool, option("--quiet", "-q", help="Warnings and errors only.", panel=SHOW)]
Verbose = Annotated[bool, option("--verbose", "-v", help="More about what happens.", panel=SHOW)]
Debug = Annotated[bool, option("--debug", help="Tracebacks for errors.", panel=SHOW)]
Config = Annotated[
    str | None,
    option(
        "--config",
        help="Options from a TOML or YAML file or a run record.",
        panel=SHOW,
        metavar="FILE",
        is_eager=True,
        callback=_load_config,
    ),
]


def duration(text: str | None) -> float | None:
    """Seconds in '90', '90s', '55m' or '2h'. Raises typer.BadParameter."""
    if text is None:
        return None
    scale = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        seconds = float(text[:-1] if scale else text) * (scale or 1.0)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise typer.BadParameter(f"--max-time: '{text}' is not a time (90s, 55m and 2h are)")
    return seconds


def share(text: str | None) -> float:
    """A share in '5%' or '0.05', 0 for None. Raises typer.BadParameter."""
    if text is None:
        return 0.0
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"--valid-split: '{text}' is not a share of the rows (5% and 0.05 are)")
    return value


def batch_size(text: str) -> int | None:
    """Rows a batch, None for auto. Raises typer.BadParameter."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"--batch-size: '{text}' is neither auto nor a number of 1 or more")
    return int(text)


def identity(ctx: typer.Context, command: str, **more: Any) -> dict[str, Any]:
    """The identity of this run as far as the options tell it, before a model is loaded. more: see `llmkit.records.identity`."""
    from llmkit import records

    named = {parameter.opts[0].lstrip("-").replace("-", "_"): parameter for parameter in ctx.command.params if parameter.name}
    options = {name: ctx.params.get(parameter.name or "") for name, parameter in named.items()}
    files = [name for name, parameter in named.items() if "FILE" in str(parameter.metavar or "")]
    return records.identity(command, options, files=files, **more)


def given(ctx: typer.Context, *, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """The command's options that differ from their defaults, for the run record: as typed, with underscores (`top_p`)."""
    skip = {"config", "quiet", "verbose", "debug", *leave}
    out = {}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = ctx.params.get(name)
        if name not in skip and value != parameter.get_default(ctx) and value not in (None, [], ()):
            out[parameter.opts[0].lstrip("-").replace("-", "_")] = value
    return out
