"""What a server can't be asked for, as far as the engine's capabilities do not say it already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmkit.engines.decoding import Decoding
    from llmkit.models.settings import ModelSettings


def reason(settings: ModelSettings, decoding: Decoding | None) -> str | None:
    """Why a server can't be asked with these settings, or for such decoding; None when it can."""
    if not settings.reference.startswith("openai:"):
        return "it asks servers, whose models are named openai:MODEL"
    if settings.reference == "openai:":
        return "there is no model name after 'openai:'"
    if settings.dtype != "auto":
        return "the server decides its precision"
    if settings.device_map != "none":
        return "the server decides where its model lies"
    if settings.trust_remote_code:
        return "it runs no code that comes with a model"
    if settings.offline:
        return "it needs a network, and this run is offline"
    return None if decoding is None else _decoding_reason(decoding)


def _decoding_reason(decoding: Decoding) -> str | None:
    for asked, what in (
        (decoding.no_repeat_ngram_size > 0, "a ban on repeated n-grams"),
        (decoding.max_length is not None, "a limit for prompt and answer together"),
        (decoding.truncate != "none", "cutting a prompt to fit"),
        (decoding.first_token is not None, "a chosen first token"),
    ):
        if asked:
            return f"servers do not offer {what}"
    return None
