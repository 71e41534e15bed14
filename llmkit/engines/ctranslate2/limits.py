"""What the engine of CTranslate2 leaves to torch, as far as its capabilities do not say it already.

What is not on this page was compared with torch and gives the same answers (tests/test_ctranslate2.py). Penalties and bans of
n-grams are other functions there than in transformers, and depend on the other rows of a batch.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.engines.ctranslate2.library import library
from llmkit.models.devices import DTYPES

if TYPE_CHECKING:
    from llmkit.engines.decoding import Decoding
    from llmkit.models.settings import ModelSettings

#: Bytes of weights from which 'auto' converts a model.
WORTH = 8_000_000


def reason(settings: ModelSettings, decoding: Decoding | None) -> str | None:
    """Why the engine can't run a model with these settings, or can't decode so; None when it can, as far as is known unopened."""
    if importlib.util.find_spec("ctranslate2") is None:
        return "the package ctranslate2 is not installed"
    if settings.trust_remote_code:
        return "it runs no code that comes with a model"
    if settings.device_map != "none":
        return "it spreads no model over devices"
    if settings.dtype not in ("auto", "float32") and settings.dtype not in (known := precisions()):
        return f"it computes in {', '.join(known)} on this processor, not in {settings.dtype}"
    return None if decoding is None else decoding_reason(decoding)


def worth_converting(reference: str) -> bool:
    """Whether 'auto' converts the model. One of a few megabytes is as fast on torch, and its form would only lie about."""
    path = Path(reference).expanduser()
    weights = path.glob("*.safetensors") if os.path.isdir(path) else [path] if os.path.isfile(path) else None
    return weights is None or sum(path.stat().st_size for path in weights if path.is_file()) >= WORTH


def precisions() -> list[str]:
    """The precisions that the library has kernels for on this processor."""
    return sorted(set(DTYPES) & library().get_supported_compute_types("cpu"))


def decoding_reason(decoding: Decoding) -> str | None:
    """Why the engine can't decode so; None when it can."""
    for asked, what in (
        (decoding.repetition_penalty != 1.0, "a repetition penalty"),
        (decoding.no_repeat_ngram_size > 0, "a ban on repeated n-grams"),
        (decoding.min_new_tokens > 0, "a minimum number of new tokens"),
        (decoding.num_beams > 1 and bool(decoding.stop or decoding.stop_token), "beam search with a stop string"),
        (decoding.start_token is not None, "another start token"),
        # 188 of 200 translations with a penalty of 0.6, and 194 of 200 lists of the four best, were torch's
        (decoding.num_beams > 1 and decoding.length_penalty != 1.0, "beam search with a length penalty"),
        (decoding.num_beams > 1 and decoding.num_samples > 1, "several answers of one beam search"),
    ):
        if asked:
            return f"it does not offer {what}"
    return None
