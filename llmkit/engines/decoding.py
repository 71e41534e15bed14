"""How text is chosen from a model's distribution: one frozen set of settings, checked where it is built.

Knows what combinations mean; not how any engine carries them out.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from llmkit.errors import UsageError

DEFAULT_NEW_TOKENS = 128


@dataclass(frozen=True)
class Decoding:
    """Decoding settings. Temperature 0 is greedy; `max_length` counts prompt and answer, `max_new_tokens` the answer.

    stop: texts before which an answer ends, special tokens by their names among them; stop_token: names of tokens that end it.
    first_token: what every answer begins with (the language that NLLB and its kin write), not part of its text.
    start_token: what the decoder reads first, instead of the model's own (the language of mBART-25).
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    num_samples: int = 1
    stop: tuple[str, ...] = ()
    stop_token: tuple[str, ...] = ()
    seed: int = 0
    prompt_lookup: int | None = None
    draft_model: str | None = None
    json_schema: str | None = None
    regex: str | None = None
    truncate: str = "none"
    logprobs: bool = False
    first_token: str | None = None
    start_token: str | None = None

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_combinations()

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.temperature > 0

    @property
    def speculates(self) -> bool:
        """Whether a draft is used (speculative decoding)."""
        return self.prompt_lookup is not None or self.draft_model is not None

    @property
    def constrained(self) -> bool:
        """Whether answers must match a schema or an expression."""
        return self.json_schema is not None or self.regex is not None

    def new_tokens(self, prompt_tokens: int, context: int | None, *, shared_context: bool) -> int:
        """Tokens the answer to a prompt of `prompt_tokens` may have, at least 0.

        context: the model's limit, of prompt and answer together when `shared_context`, else of each side.
        """
        limit = self.max_new_tokens
        if self.max_length is not None:
            limit = self.max_length - (prompt_tokens if shared_context else 0)
        if limit is None:
            limit = DEFAULT_NEW_TOKENS
        if context is not None:
            limit = min(limit, context - (prompt_tokens if shared_context else 1))
        return max(0, limit)

    def prompt_room(self, context: int | None, *, shared_context: bool) -> int | None:
        """Tokens that a prompt keeps when it is cut, None without a limit.

        Room is left for the longest answer that is asked for, but a prompt always keeps half: so no longer prompt gets a longer answer.
        """
        if not shared_context:
            return context
        limits = [limit for limit in (context, self.max_length) if limit is not None]
        if not limits:
            return None
        return max(min(limits) // 2, min(limits) - (self.max_new_tokens or DEFAULT_NEW_TOKENS))

    def record(self) -> dict[str, Any]:
        """What differs from the defaults, for fingerprints and run records."""
        default = asdict(Decoding())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def _check_ranges(self) -> None:
        for name, low, high, open_low in (
            ("temperature", 0.0, math.inf, False),
            ("top_p", 0.0, 1.0, True),
            ("min_p", 0.0, 1.0, False),
            ("repetition_penalty", 0.0, math.inf, True),
            ("length_penalty", -math.inf, math.inf, False),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or value > high or value < low or (open_low and value == low):
                bounds = f"above {low:g}" if open_low else f"{low:g} or more"
                raise UsageError(f"{_flag(name)} {value}: it must be {bounds}" + (f" and at most {high:g}" if high < math.inf else ""))
        for name in ("max_new_tokens", "max_length", "top_k", "num_beams", "num_samples", "prompt_lookup"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{_flag(name)} {getattr(self, name)}: it must be 1 or more")
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"`seed` {self.seed}: it must be between 0 and 2^64 - 1")
        if "" in self.stop or "" in self.stop_token:
            raise UsageError("`stop`: an empty text would end every answer at once")
        if self.truncate not in ("none", "left", "right"):
            raise UsageError(f"`truncate` {self.truncate}: it must be none, left or right")

    def _check_combinations(self) -> None:
        filters = [n for n in ("top_k", "top_p", "min_p") if getattr(self, n) is not None]
        if filters and not self.samples:
            raise UsageError(f"{_flag(filters[0])} has no effect at temperature 0", hint="add `temperature` 1, or remove it")
        if self.samples and self.num_beams > 1:
            raise UsageError("`num_beams` and `temperature` cannot be combined: beam search does not sample", hint="use only one of them")
        if self.num_samples > 1 and not self.samples and self.num_beams == 1:
            raise UsageError(
                f"`num_samples` {self.num_samples}: greedy answers would all be the same", hint="add `temperature` 1, or `num_beams`"
            )
        if 1 < self.num_beams < self.num_samples:
            raise UsageError(
                f"-n {self.num_samples}: {self.num_beams} beams give at most {self.num_beams} answers", hint="raise `num_beams`"
            )
        if self.length_penalty != 1.0 and self.num_beams == 1:
            raise UsageError("`length_penalty` needs beam search", hint="add `num_beams` 4, or remove it")
        if self.max_new_tokens is not None and self.max_length is not None:
            raise UsageError("`max_new_tokens` and `max_length` cannot be combined", hint="use only one of them")
        if self.min_new_tokens > (self.max_new_tokens or self.max_length or DEFAULT_NEW_TOKENS):
            raise UsageError("`min_new_tokens` is more than the longest answer allowed")
        if self.prompt_lookup is not None and self.draft_model is not None:
            raise UsageError("`prompt_lookup` and `draft_model` cannot be combined", hint="use only one of them")
        if self.speculates and self.num_beams > 1:
            raise UsageError("speculation and `num_beams` cannot be combined", hint="use only one of them")
        if self.json_schema is not None and self.regex is not None:
            raise UsageError("`json_schema` and `regex` cannot be combined", hint="use only one of them")
        if self.constrained and (self.no_repeat_ngram_size or self.min_new_tokens):
            what = "no_repeat_ngram_size" if self.no_repeat_ngram_size else "min_new_tokens"
            constraint = "regex" if self.regex is not None else "json_schema"
            raise UsageError(
                f"{_flag(constraint)} and {_flag(what)} cannot be combined: it can forbid the only tokens that the constraint allows",
                hint="use only one of them",
            )
        if self.constrained and (self.num_beams > 1 or self.speculates):
            raise UsageError("`json_schema` and `regex` cannot be combined with `num_beams` or speculation", hint="use only one of them")


def _flag(name: str) -> str:
    return f"`{name}`"
