"""Which architectures continue a text, and why no model could be made of a folder: what transformers says, and where to look.

Knows transformers' tables and exceptions; not devices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from llmkit.errors import ModelError, one_line
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.unusual import unusual

#: An architecture that transformers has for both uses under one class.
_BOTH = "xlm"
_OTHER_MODEL = "name a causal or a sequence-to-sequence model"


def refuse_encoder(checkpoint: Checkpoint) -> None:
    """Raises ModelError for BERT and its kin: they load, and what they write is noise."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    kind = checkpoint.model_type
    decodes = checkpoint.is_encoder_decoder or checkpoint.config.get("is_decoder") or kind == _BOTH
    if kind in MASKED and kind in CAUSAL and not decodes:
        raise ModelError(
            f"{checkpoint.folder}: '{kind}' is an encoder, which fills gaps in a text and does not continue one", hint=_OTHER_MODEL
        )


def not_made(checkpoint: Checkpoint, exc: Exception, read: Callable[..., Any]) -> ModelError:
    """The error for a model that transformers could not make. read: makes it, with more arguments than before."""
    import transformers

    kind, said = one_line(checkpoint.model_type), str(exc)
    form = "sequence-to-sequence" if checkpoint.is_encoder_decoder else "causal"
    if checkpoint.model_type not in transformers.CONFIG_MAPPING and "auto_map" not in checkpoint.config:
        return ModelError(
            f"{checkpoint.folder / 'config.json'}: transformers {transformers.__version__} does not know the 'model_type' {kind}",
            hint="a newer transformers may know it: pip install -U transformers",
        )
    if said.startswith("Unrecognized configuration class"):
        return ModelError(
            f"{checkpoint.folder}: transformers {transformers.__version__} does not load '{kind}' as a {form} model", hint=_OTHER_MODEL
        )
    reason, sizes = _mismatch(read, said) if "ignore_mismatched_sizes" in said else (said, set())
    return ModelError(
        f"{checkpoint.folder / 'config.json'}: no {form} model '{kind}' can be made of it and the weights: {one_line(reason)}",
        hint=look_at(checkpoint, reason, sizes) or "copy or download the model again; a newer transformers may read it",
    )


def look_at(checkpoint: Checkpoint, reason: str, sizes: Collection[int] = ()) -> str | None:
    """What is unusual in config.json, for what a library said of the model; None where nothing is."""
    from transformers import CONFIG_MAPPING

    try:
        usual = CONFIG_MAPPING[checkpoint.model_type]().to_dict()
    except (KeyError, TypeError, ValueError, AttributeError):  # not known, or without values of its own
        return None
    return unusual(checkpoint.config, usual, reason, sizes)


def _mismatch(read: Callable[..., Any], said: str) -> tuple[str, set[int]]:
    """Which weights have another shape than the configuration asks for, and the sizes that it asks for: transformers tells only `said`."""
    try:
        _, info = read(ignore_mismatched_sizes=True)
        name, there, wanted = min(info["mismatched_keys"])
    except Exception:
        # as the first time, it can raise anything; then its own words have to do
        return said, set()
    return f"'{name}' has the shape {list(there)} in the file, and {list(wanted)} by the configuration", set(wanted) - set(there)
