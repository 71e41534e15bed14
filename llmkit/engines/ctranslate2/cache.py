"""Models that were converted for CTranslate2: their shelf, and the name of a model's folder on it."""

from __future__ import annotations

import hashlib

from llmkit import files
from llmkit.models.adapters import Adapter
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.shelf import Shelf, remember_sha256, remembered_sha256
from llmkit.models.view import TEMPLATE, VOCABULARIES

SHELF = Shelf("ctranslate2", form=2)
#: What beside the weights decides ids, answers and limits.
_SMALL = ("config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json", "README.md", TEMPLATE, *VOCABULARIES)
_TEMPLATES = "additional_chat_templates"


def key(checkpoint: Checkpoint, adapter: Adapter | None) -> str:
    """The name of a model's folder: a hash of weights, adapter, tokenizer, configurations, and of what converts them.

    The precision to compute in is no part of it: one form serves all.
    """
    from importlib.metadata import version  # not at the top: see `llmkit.models.devices`

    digest = hashlib.sha256()
    parts = [
        str(SHELF.form),
        *(f"{name} {version(name)}" for name in ("ctranslate2", "transformers", "tokenizers")),
        weights_sha256(checkpoint),
    ]
    if adapter is not None:
        parts.append(adapter.sha256)
    for folder in (checkpoint.folder, *([adapter.folder] if adapter is not None else [])):
        more = sorted((folder / _TEMPLATES).glob("*.jinja"))
        parts += [f"{path.name} {files.file_sha256(path)}" for path in (*(folder / name for name in _SMALL), *more) if path.is_file()]
        parts.append("")
    digest.update("\n".join(parts).encode())
    return digest.hexdigest()[:40]


def weights_sha256(checkpoint: Checkpoint) -> str:
    """`checkpoint.sha256`, from memory where it is remembered."""
    known = remembered_sha256(checkpoint.files)
    if known is None:
        known = checkpoint.sha256
        remember_sha256(checkpoint.files, known)
    return known
