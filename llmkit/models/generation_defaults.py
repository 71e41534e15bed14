"""The settings of decoding that a model's generation_config.json asks for, by our names: used only when a person says so.

Knows the file; not what a setting does. Special, forced and suppressed tokens are in force without being asked for, and are no matter
of this module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError
from llmkit.models.small_files import read_object

FILE = "generation_config.json"
_NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "length_penalty")
_COUNTS = ("top_k", "no_repeat_ngram_size", "num_beams", "max_new_tokens", "max_length", "min_new_tokens")
#: Beams that a stranger's file may ask for: each takes memory for a whole answer.
_MOST_BEAMS = 1000
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
#: What is used anyhow, or has no influence on what is chosen.
_OTHER = (
    "do_sample", "stop_strings", "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "transformers_version", "use_cache",
    "cache_implementation", "cache_config", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores",
    "output_logits", "max_time", "num_return_sequences", "language", "task",
)  # fmt: skip


@dataclass(frozen=True)
class GenerationDefaults:
    """What a model's file asks for. values: by the names of `Decoding`; unused: names in the file that have no counterpart there."""

    values: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def over(self, chosen: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """`chosen` with the model's values for all names but those a person has given, and those that such a value excludes."""
        excluded = set(given)
        if excluded & {"max_new_tokens", "max_length"}:
            excluded |= {"max_new_tokens", "max_length"}
        if "temperature" in excluded and not chosen.get("temperature"):
            excluded |= set(_SAMPLING)
        if (chosen.get("num_beams") or 1) > 1:
            excluded |= set(_SAMPLING)
        if (chosen.get("temperature") or 0) > 0:
            excluded |= {"num_beams", "length_penalty"}
        return {**chosen, **{name: value for name, value in self.values.items() if name not in excluded}}


def generation_defaults(folder: Path) -> GenerationDefaults | None:
    """What the model in a folder asks for, None without such a file. As in transformers it samples only with `do_sample`.

    Raises ModelError naming a setting whose value can't be meant.
    """
    try:
        content = read_object(folder / FILE)
    except FileNotFoundError:
        return None
    values: dict[str, Any] = {}
    for name in (*_NUMBERS, *_COUNTS):
        value = content.get(name)
        if value is None:
            continue
        good = type(value) is int or (name in _NUMBERS and isinstance(value, float))
        _check(folder, name, value, good and (name != "num_beams" or value <= _MOST_BEAMS))
        values[name] = float(value) if name in _NUMBERS else value
    stops = content.get("stop_strings")
    if stops:
        stops = [stops] if isinstance(stops, str) else stops
        _check(folder, "stop_strings", stops, isinstance(stops, list) and all(isinstance(stop, str) for stop in stops))
        values["stop"] = tuple(stops)
    unused = [name for name, value in content.items() if not _used(name) and value not in (None, False)]
    return GenerationDefaults(_meant(values, samples=content.get("do_sample") is True), tuple(sorted(unused)))


def _meant(values: dict[str, Any], *, samples: bool) -> dict[str, Any]:
    """Without what is off (as a `top_k` of 0), or has no effect beside the others."""
    if samples:
        values.setdefault("temperature", 1.0)
    off = {name for name in ("top_k", "no_repeat_ngram_size", "min_new_tokens") if values.get(name) == 0}
    off |= set() if samples else set(_SAMPLING)
    off |= set() if values.get("num_beams", 1) > 1 else {"num_beams", "length_penalty"}
    off |= {"max_length"} if "max_new_tokens" in values else set()
    return {name: value for name, value in values.items() if name not in off}


def _used(name: str) -> bool:
    return name.startswith("_") or name in _NUMBERS or name in _COUNTS or name in _OTHER


def _check(folder: Path, name: str, value: Any, good: bool) -> None:
    if not good:
        raise ModelError(f"{folder / FILE}: '{name}' is {str(value)[:60]}, which is not a valid value")
