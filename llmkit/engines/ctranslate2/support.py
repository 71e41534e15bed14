"""What the engine of CTranslate2 leaves to torch, as far as its capabilities do not say it already.

What is not on this page was compared with torch and gives the same answers (tests/test_ctranslate2.py). Penalties and bans of
n-grams are other functions there than in transformers, and depend on the other rows of a batch.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from llmkit.models import builtin

if TYPE_CHECKING:
    from llmkit.engines.decoding import Decoding
    from llmkit.models.settings import ModelSettings


def reason(settings: ModelSettings, decoding: Decoding | None) -> str | None:
    """Why the engine can't run a model with these settings, or can't decode so; None when it can."""
    if importlib.util.find_spec("ctranslate2") is None:
        return "the package ctranslate2 is not installed"
    name = settings.reference.removeprefix("builtin:")
    if not settings.reference.startswith("builtin:"):
        return "it runs only the built-in models"
    if name not in builtin.CONVERTED:
        return None  # opening it says which there are
    if settings.dtype not in ("auto", "float32"):
        return f"it computes in float32, not in {settings.dtype}"
    if settings.trust_remote_code:
        return "it runs no code that comes with a model"
    return None if decoding is None else decoding_reason(decoding)


def decoding_reason(decoding: Decoding) -> str | None:
    """Why the engine can't decode so; None when it can."""
    for asked, what in (
        (decoding.repetition_penalty != 1.0, "a repetition penalty"),
        (decoding.no_repeat_ngram_size > 0, "a ban on repeated n-grams"),
        (decoding.min_new_tokens > 0, "a least number of new tokens"),
        (decoding.first_token is not None, "a first token of answers"),
        (decoding.num_beams > 1 and bool(decoding.stop or decoding.stop_token), "beam search up to a stop string"),
        (decoding.start_token is not None, "another token that answers start with"),
        # 188 of 200 translations with a penalty of 0.6, and 194 of 200 lists of the four best, were torch's
        (decoding.num_beams > 1 and decoding.length_penalty != 1.0, "beam search with a length penalty"),
        (decoding.num_beams > 1 and decoding.num_samples > 1, "more than the best answer of a beam search"),
    ):
        if asked:
            return f"it does not offer {what}"
    return None
