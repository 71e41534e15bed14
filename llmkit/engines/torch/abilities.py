"""What a kind of model can't do, though transformers lets one try: read from the signature of its forward pass.

Knows classes of transformers (release 5.24); not tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmkit.engines.decoding import Decoding
from llmkit.errors import LlmkitError, UsageError, one_line
from llmkit.private_parts import require

#: Kinds that take an attention mask and pass over it, in whole or in their recurrent layers.
_IGNORE_THE_MASK = ("rwkv", "recurrent_gemma")
#: Names of a cache (the second before release 5.24), and of a state that no beam search can reorder.
_CACHES, _OWN_STATE = {"cache", "past_key_values"}, {"state"}
#: Where layers come from whose calls leave nothing in them.
_STATELESS = ("torch.nn.modules.", "transformers.", "peft.", "llmkit.")


def runs_alone(model: Any) -> bool:
    """Whether padding or neighbors would change the model's answers, so that each row needs a batch of its own."""
    names = _arguments(model)
    return model.config.model_type in _IGNORE_THE_MASK or "attention_mask" not in names or bool(_OWN_STATE & names)


def takes_cache(model: Any) -> bool:
    """Whether the model keeps what it has read in a cache that is handed to it, and finds its place in it by a mask."""
    return "cache" in (names := _arguments(model)) and "attention_mask" in names


def takes_positions(model: Any) -> bool:
    """Whether the model is told the position of each token, so that padding may lie between tokens, too."""
    return "position_ids" in _arguments(model)


def same_positions(model: Any) -> int | None:
    """Tokens up to which a row's positions are its own: beyond, the longest row of a batch decides how those of all are scaled.

    None for models whose positions do not hang on lengths, as all but those with LongRoPE (Phi-3 with a context of 128,000).
    """
    kinds = [each for each in _positions(model) if each.get("rope_type") == "longrope"]
    return min((int(each["original_max_position_embeddings"]) for each in kinds), default=None)


def keeps_nothing(model: Any) -> bool:
    """Whether calls of the model may run at once in several threads, since none leaves anything in the model that another one reads.

    Not so: code of strangers; layers of other libraries, such as bitsandbytes, which note outliers in the layer; layers that are moved or
    divided as they are called; positions that are scaled anew for each length.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = all(type(module).__module__.startswith(_STATELESS) for module in base.modules())
    scaled = any(each.get("rope_type") in ("dynamic", "longrope") for each in _positions(base))
    return known and not scaled and getattr(base, "hf_device_map", None) is None


def _positions(model: Any) -> list[dict[str, Any]]:
    """How a model's rotary positions are computed, of each kind of its layers."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    return [each for each in (rope, *rope.values()) if isinstance(each, dict)]


def last_scores(model: Any) -> dict[str, int]:
    """What has the model compute scores for the last position only, where it can."""
    return {"logits_to_keep": 1} if "logits_to_keep" in _arguments(model) else {}


def check(model: Any, decoding: Decoding) -> None:
    """Raises UsageError for a way of decoding that this kind of model does not have."""
    names, kind = _arguments(model), model.config.model_type
    if decoding.speculates:
        option = "prompt_lookup" if decoding.prompt_lookup is not None else "draft_model"
        why = "it can't take tokens back" if _is_stateful(model) else None if _CACHES & names else "it keeps no cache"
        if why is not None:
            raise UsageError(f"a model of type {kind} can't run with `{option}`: {why}", hint=f"remove `{option}`")
    if decoding.num_beams > 1 and _OWN_STATE & names:
        raise UsageError(f"a model of type {kind} can't run with `num_beams`: its state can't be reordered", hint="remove `num_beams`")


@contextmanager
def refusals(model: Any, decoding: Decoding) -> Iterator[None]:
    """What transformers raises for a way of decoding that a model does not have, as UsageError; other errors stay as they are."""
    option = "prompt_lookup" if decoding.prompt_lookup is not None else "draft_model" if decoding.speculates else "num_beams"
    try:
        yield
    except (LlmkitError, MemoryError):
        raise
    except Exception as exc:  # a model's own code raises anything
        if not decoding.speculates and decoding.num_beams == 1:
            raise
        kind = model.config.model_type
        raise UsageError(f"a model of type {kind} can't run with `{option}`: {one_line(exc)}", hint=f"remove `{option}`") from exc


def _arguments(model: Any) -> set[str]:
    """The names of a model's inputs, those of the base model where adapters lie on it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(base.forward).parameters)


def _is_stateful(model: Any) -> bool:
    require("speculation")
    return bool(model._is_stateful)
