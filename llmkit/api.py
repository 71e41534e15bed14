"""What a program calls: load a model, then generate, score or translate with it; evaluate texts; fine-tune.

    import llmkit
    model = llmkit.load("builtin:stories")
    answers = llmkit.generate(model, ["Once upon a time", "The king"], max_new_tokens=20)
    print(answers[0].text)

A model is loaded once and used as often as needed. Nothing is printed, only `finetune` writes files, and every error is a
`LlmkitError`. Heavy libraries are imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError, ModelError, UsageError, counted
from llmkit.jobs.batching import Work, batches, windows
from llmkit.rows import Row
from llmkit.rows.fields import Prompt

if TYPE_CHECKING:
    from llmkit.engines.base import Completion, Engine
    from llmkit.metrics.base import Score
    from llmkit.metrics.perplexity import Likelihood
    from llmkit.metrics.registry import TextSettings
    from llmkit.models.settings import ServerSettings
    from llmkit.training.finetune import Finetuned
    from llmkit.training.settings import FinetuneSettings

_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class Translation:
    """A translated text. problems: what the checks say is lost, repeated or cut off; None when they say nothing.

    finish_reason: 'eos', or 'length' for one that was cut off. The counts are of tokens.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    problems: str | None = None


def load(
    reference: str = "builtin:stories",
    *,
    adapter: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    chat_template: str = "auto",
    chat_template_kwargs: Mapping[str, Any] | None = None,
    system: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    threads: int | None = None,
    server: ServerSettings | None = None,
    device_map: str = "none",
) -> Engine:
    """A model in memory: `builtin:NAME`, a folder, or a hub id `org/name[@revision]`; or `openai:NAME`, which servers run.

    chat_template: 'auto' (the model's own), 'none', or a Jinja file. chat_template_kwargs: what else it is shown, as
    {"enable_thinking": False}. system: a system message before each conversation. threads: on a CPU, None for all cores. server: where and
    how servers are asked. device_map: 'auto' spreads a model that no device holds.
    Raises ModelError for a model that is damaged or unsafe, UnavailableError for one that is not available, OutOfMemoryError for one that
    does not fit, UsageError for an invalid name.
    """
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.registry import open_engine
    from llmkit.models.settings import ModelSettings, ServerSettings

    settings = ModelSettings(
        reference, adapter=adapter, device=device, dtype=dtype, offline=offline, trust_remote_code=trust_remote_code, quantize=quantize,
        threads=threads, server=server or ServerSettings(), device_map=device_map,
    )  # fmt: skip
    return open_engine(settings, chat=ChatSettings(chat_template, system, dict(chat_template_kwargs or {})))


def generate(
    model: Engine | str, prompts: Sequence[str | Sequence[dict[str, Any]]], *, batch_size: int | None = None, **decoding: Any
) -> list[Completion]:
    """The answer to each prompt, in order: `llmkit.generate("builtin:stories", ["Once upon a time"], max_new_tokens=20)`.

    prompts: texts, or conversations (lists of messages with 'role' and 'content'). batch_size: rows per batch, None for automatic; it
    changes no greedy float32 answer. decoding: fields of `llmkit.Decoding`, as temperature, top_p, num_beams, stop, seed.
    Raises InputError for a prompt that is empty or too long, UsageError for invalid settings, ModelError when the
    model's scores are not numbers.
    """
    engine = load(model) if isinstance(model, str) else model
    settings = Decoding(**decoding)
    if settings.num_samples > 1:
        raise UsageError("generate gives one answer per prompt", hint="repeat the prompt; each repetition is sampled on its own")
    out: dict[int, Completion] = {}
    for window in windows(Row(number, None, {}) for number in range(len(prompts))):
        works = []
        for row in window:
            request = engine.make_request(_prompt(prompts[row.index]), settings, row.index)
            works.append(Work(row, request, len(request.tokens), request.max_new_tokens))
        for batch in batches(works, rows=batch_size, tokens=_BATCH_TOKENS, width=settings.num_beams):
            answers = engine.generate([work.payload for work in batch], settings)
            out |= {work.row.index: answer for work, (answer,) in zip(batch, answers, strict=True)}
    if failed := next((answer.error for answer in out.values() if answer.error), None):
        raise ModelError(failed)
    return [out[number] for number in range(len(prompts))]


def score(model: Engine | str, texts: Sequence[str], *, context: int | None = None, stride: int | None = None) -> list[Likelihood]:
    """How likely each text is under the model: log-likelihood in nats with counts of tokens, words and bytes, and figures made of them.

    context and stride: of the windows in tokens; None takes the model's own context, without overlap (the protocol of
    lm-evaluation-harness). Raises InputError for a text that can't be scored, UsageError for an engine
    that does not count tokens.
    """
    from llmkit.metrics.perplexity import Windows
    from llmkit.rows.fields import DocumentFields
    from llmkit.tasks.score import Scoring, TextScoring, likelihood

    engine = load(model) if isinstance(model, str) else model
    chosen, fields = (engine.context or 1024) if context is None else context, DocumentFields(None, False, False)
    if not engine.token_ids and (context is not None or stride is not None):
        raise UsageError(f"the engine {engine.name} does not expose a model's tokens, which `context` and `stride` count")
    task: Scoring | TextScoring = TextScoring(engine, fields, "the texts")
    if engine.token_ids:
        task = Scoring(engine, Windows(chosen, chosen if stride is None else stride), fields, "the texts", batch_tokens=_BATCH_TOKENS)
    works = [task.prepare(Row(number, None, {"text": text})) for number, text in enumerate(texts)]
    if error := next((work.error for work in works if work.error is not None), None):
        raise error
    out: dict[int, Likelihood] = {}
    for batch in batches(works, rows=None, tokens=_BATCH_TOKENS):
        out |= {work.row.index: likelihood(answer.fields) for work, answer in zip(batch, task.answer(batch), strict=True)}
    return [out[number] for number in range(len(texts))]


def translate(
    model: Engine | str,
    texts: Sequence[str],
    *,
    source: str | None = None,
    target: str | None = None,
    num_beams: int | None = None,
    length_penalty: float = 1.0,
    max_new_tokens: int | None = None,
) -> list[Translation]:
    """Each text in another language, in order: `llmkit.translate("builtin:en-fr", ["Good morning."], target="fr")`.

    Texts are cut into sentences that fit the model and joined again with their white space. source and target: names or codes of
    languages; None for the model's own. num_beams: None for 4 with an encoder-decoder, 1 otherwise.
    Raises UsageError for a language that the model does not know, InputError for a text that can't be translated.
    """
    from llmkit.tasks.route import RouteSettings, translating
    from llmkit.translation.languages import language

    engine = load(model) if isinstance(model, str) else model
    ends = [None if name is None else language(name, f"`{end}`") for name, end in ((source, "source"), (target, "target"))]
    settings = RouteSettings(ends[0], ends[1], num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens)
    task = translating([engine], settings, file_name="the texts")
    works = [task.prepare(Row(number, None, {"text": text})) for number, text in enumerate(texts)]
    if error := next((work.error for work in works if work.error is not None), None):
        raise error
    out: dict[int, Translation] = {}
    for batch in batches(works, rows=None, tokens=_BATCH_TOKENS, width=task.width):
        for work, answer in zip(batch, task.answer(batch), strict=True):
            text, reason = answer.fields["translation"], answer.fields["finish_reason"]
            out[work.row.index] = Translation(text, reason, answer.prompt_tokens, answer.completion_tokens, answer.error)
    return [out[number] for number in range(len(texts))]


def evaluate(
    metrics: str | Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    settings: TextSettings | None = None,
) -> list[Score]:
    """Scores of texts against references, each with its signature: `llmkit.evaluate("bleu,chrf", hypotheses, references)`.

    references: per prediction, a text or several. Imports no torch. Raises UsageError for an unknown metric or lists of different lengths,
    InputError for a prediction without a reference or one that is no text, and what the metrics raise.
    """
    from llmkit.metrics.registry import TextSettings, chosen, compute

    names = chosen(metrics if isinstance(metrics, str) else ",".join(metrics))
    if isinstance(predictions, str) or isinstance(references, str):
        raise UsageError("predictions and references are lists, and one of them is a text", hint="put it into a list: [text]")
    predictions, references = list(predictions), list(references)
    if len(predictions) != len(references) or not predictions:
        both = f"{counted(len(predictions), 'prediction')} and {counted(len(references), 'reference')}"
        raise UsageError(both, hint="both need one entry per row")
    expected = [list(entry) if isinstance(entry, Iterable) and not isinstance(entry, str) else [entry] for entry in references]
    for number, texts in enumerate(zip(predictions, expected, strict=True), 1):
        if not all(isinstance(text, str) for text in (texts[0], *texts[1])):
            raise InputError(f"prediction {number} or one of its references is not text", hint="texts are compared: str(value) makes one")
    if bare := next((number for number, entry in enumerate(expected, 1) if not entry), None):
        raise InputError(f"prediction {bare} has no reference", hint="give each a text, or a list of one or more")
    return [score for name in names for score in compute(name, predictions, expected, settings or TextSettings())]


def finetune(settings: FinetuneSettings, output: str, *, overwrite: bool = False, restart: bool = False, extend: bool = False) -> Finetuned:
    """Trains an adapter (or all weights) into the folder `output`, or continues the run there, as `llmkit finetune` does.

    settings: `FinetuneSettings(DataSettings("train.jsonl"), ModelSettings("gpt2"))` and more of `llmkit.training.settings`.
    overwrite: replace a finished result, once the new one is complete. restart: drop an unfinished run's checkpoints.
    extend: go on with a finished run for more epochs or steps.
    Raises UsageError, InputError, OutputError, JobChangedError, UnavailableError or ModelError before any training, and TrainingError for
    a run that diverged.
    """
    from llmkit.training.finetune import finetune as run

    return run(settings, output, overwrite=overwrite, restart=restart, extend=extend)


def _prompt(prompt: str | Sequence[dict[str, Any]]) -> Prompt:
    return Prompt(text=prompt) if isinstance(prompt, str) else Prompt(messages=tuple(prompt))
