"""The options of decoding, and the settings that they and the model's own make together.

Knows names, defaults and help; what combinations mean is the business of `Decoding`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.options import LengthPenalty, MaxNewTokens, MinP, Seed, Stop, Temperature, TopK, TopP
from llmkit.cli.parsing import DECODING, choice_option, count_option, group, number_option, option

if TYPE_CHECKING:
    from llmkit.engines.decoding import Decoding
    from llmkit.models.generation_defaults import GenerationDefaults


@group
class AnswerOptions:
    """What can be chosen about the answers of a model whose kind decides the number of beams."""

    num_beams: Annotated[
        int | None,
        count_option("--num-beams", help="Beam search with N beams. [default: 4 for sequence-to-sequence models]", panel=DECODING),
    ] = None
    max_new_tokens: MaxNewTokens = None


@group
class DecodingOptions:
    """How an answer is chosen, token by token."""

    max_new_tokens: MaxNewTokens = None
    max_length: Annotated[
        int | None, count_option("--max-length", help="Maximum number of tokens, prompt and answer together.", panel=DECODING)
    ] = None
    min_new_tokens: Annotated[int, count_option("--min-new-tokens", help="Minimum number of new tokens.", panel=DECODING)] = 0
    temperature: Temperature = 0.0
    top_k: TopK = None
    top_p: TopP = None
    min_p: MinP = None
    repetition_penalty: Annotated[
        float, number_option("--repetition-penalty", help="Above 1 makes repeated tokens less likely.", panel=DECODING)
    ] = 1.0
    no_repeat_ngram_size: Annotated[
        int, count_option("--no-repeat-ngram-size", help="Do not repeat any N-gram of tokens.", panel=DECODING)
    ] = 0
    num_beams: Annotated[int, count_option("--num-beams", help="Beam search with N beams.", panel=DECODING)] = 1
    length_penalty: LengthPenalty = 1.0
    num_samples: Annotated[int, count_option("--num-samples", "-n", help="Number of answers per prompt.", panel=DECODING)] = 1
    stop: Stop = None
    stop_token: Annotated[
        list[str] | None,
        option("--stop-token", help="End the answer at this token, given by its name (repeatable).", panel=DECODING, metavar="TOKEN"),
    ] = None
    seed: Seed = 0
    prompt_lookup: Annotated[
        int | None, count_option("--prompt-lookup", help="Speculative decoding: draft N tokens from n-grams of the prompt.", panel=DECODING)
    ] = None
    draft_model: Annotated[
        str | None, option("--draft-model", help="Speculative decoding: this smaller model drafts tokens.", panel=DECODING, metavar="REF")
    ] = None
    json_schema: Annotated[
        str | None,
        option("--json-schema", help="Answer with JSON of this schema (a file, or the JSON itself).", panel=DECODING, metavar="FILE|JSON"),
    ] = None
    regex: Annotated[str | None, option("--regex", help="Answer with text that matches this regular expression.", panel=DECODING)] = None
    truncate: Annotated[
        str,
        choice_option(
            "--truncate",
            help="Side to cut when prompt and answer exceed the context (none: an error).",
            panel=DECODING,
            values=("none", "left", "right"),
        ),
    ] = "none"
    logprobs: Annotated[bool, option("--logprobs", help="Also write each token with its log-probability.", panel=DECODING)] = False

    generation_config: Annotated[
        str,
        choice_option(
            "--generation-config",
            help="Use the model's generation_config.json as defaults (none: only its special tokens).",
            panel=DECODING,
            values=("none", "model"),
        ),
    ] = "none"

    def decoding(self, ctx: typer.Context, own: GenerationDefaults | None = None) -> Decoding:
        """own: the model's settings, in force where no option is given. Raises UsageError for values that can't be combined.

        Filters and numbers of samples from the environment or a configuration file are for runs that sample; a greedy run drops them.
        """
        from llmkit.cli.parameter_source import is_given, on_command_line
        from llmkit.engines.decoding import Decoding
        from llmkit.errors import UsageError

        values = asdict(self) | {"stop": tuple(self.stop or ()), "stop_token": tuple(self.stop_token or ())}
        del values["generation_config"]
        if own is not None:
            values = own.over(values, [name for name in values if is_given(ctx, name)])
        if values["temperature"] == 0:
            values |= {name: None for name in ("top_k", "top_p", "min_p") if not on_command_line(ctx, name)}
            if values["num_beams"] == 1 and not on_command_line(ctx, "num_samples"):
                values["num_samples"] = 1
        try:
            return Decoding(**values)
        except UsageError as exc:
            if own is None or not own.values:
                raise
            raise UsageError(f"with the model's own settings: {exc.message}", hint=exc.hint) from exc
