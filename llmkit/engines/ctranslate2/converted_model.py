"""A model in the form that the engine runs: its files, and what torch would have known of it. Imports neither torch nor transformers.

Knows the package's built-in models and the folders of the cache; not how a form is made (convert.py) or run (model.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from llmkit.engines.base import ModelFacts, ModelIdentity
from llmkit.engines.chat import ChatSettings
from llmkit.engines.ctranslate2.model import Files
from llmkit.engines.tokenizer_file import TokenizerFile
from llmkit.models import builtin
from llmkit.models.checkpoint import Checkpoint, read_checkpoint
from llmkit.models.shelf import CacheEntry
from llmkit.models.small_files import read_object

#: A model below it (in bytes of float32) answers one text on one core as fast as on all.
_SMALL = 1 << 26


@dataclass(frozen=True)
class ConvertedModel:
    """A model that can be run. context, ends, bos and start: as `Codec` has them.

    first: the token that every answer begins with by the model's own configuration. configured_bos: that of the configuration,
    which the tokenizer's may differ from. about: what its answers are compared by, but for precision and chat template.
    checkpoint: the weights before they got this form.
    """

    files: Files
    tokenizer: TokenizerFile
    model_type: str
    context: int | None
    ends: tuple[int, ...]
    bos: int | None
    start: int | None
    first: int | None
    configured_bos: int | None
    languages: tuple[str, ...]
    task_prefixes: tuple[str, ...]
    about: ModelIdentity
    checkpoint: Checkpoint

    def facts(self, chat: ChatSettings) -> ModelFacts:
        """As `TextEngine.facts`; `chat` decides whether the model counts as one with a template."""
        return ModelFacts(
            reference=self.about.model,
            model_type=self.model_type,
            encoder_decoder=self.files.translates,
            has_chat_template=chat.source(self.tokenizer) is not None,
            languages=self.languages,
            task_prefixes=self.task_prefixes,
            tokens=tuple(self.tokenizer.get_vocab()),
        )


def packaged(name: str) -> ConvertedModel:
    """A built-in model. Raises UsageError, ModelError or UnavailableError."""
    folder = builtin.folder(name)
    checkpoint = read_checkpoint(folder)
    config = read_object(folder / "config.json")
    tokenizer = TokenizerFile(folder)
    ids = tokenizer.get_vocab()
    translates = bool(config.get("is_encoder_decoder", False))
    context = int(config["max_position_embeddings"])
    return ConvertedModel(
        files=Files(
            lambda: ("builtin", builtin.converted(name)), tuple(sorted(ids, key=ids.__getitem__)), translates,
            None if translates else context, small=True,
        ),
        tokenizer=tokenizer,
        model_type=str(config["model_type"]),
        context=context,
        ends=(int(config["eos_token_id"]),),
        bos=tokenizer.bos_token_id,
        start=config.get("decoder_start_token_id"),
        first=None,
        configured_bos=tokenizer.bos_token_id,  # tokenizer and configuration of the built-in models agree
        languages=builtin.LANGUAGES[name],
        task_prefixes=(),
        about=ModelIdentity(
            engine="",
            model=f"builtin:{name}",
            parameters=checkpoint.parameters,
            weights_sha256=builtin.CHECKSUMS[name],
            tokenizer_sha256=tokenizer_sha256(tokenizer),
            device="cpu",
        ),
        checkpoint=checkpoint,
    )  # fmt: skip


def cached(entry: CacheEntry, checkpoint: Checkpoint, reference: str, revision: str | None, adapter: str | None) -> ConvertedModel:
    """A converted model, under the names by which it was asked for. checkpoint: what it was made of. Raises ModelError."""
    known = entry.manifest["model"]
    tokenizer = TokenizerFile(entry.folder)
    vocabulary = tuple(map(str, range(known["tokens"])))
    context, translates = known["context"], known["encoder_decoder"]
    return ConvertedModel(
        files=Files(
            lambda: (str(entry.folder), None), vocabulary, translates, None if translates else context,
            small=4 * known["parameters"] < _SMALL,
        ),
        tokenizer=tokenizer,
        model_type=known["model_type"],
        context=context,
        ends=tuple(known["ends"]),
        bos=known["bos"],
        start=known["start"],
        first=known["first"],
        configured_bos=known["configured_bos"],
        languages=tuple(known["languages"]),
        task_prefixes=tuple(known["task_prefixes"]),
        about=ModelIdentity(
            engine="",
            model=reference,
            revision=revision,
            parameters=known["parameters"],
            weights_sha256=known["weights_sha256"],
            tokenizer_sha256=tokenizer_sha256(tokenizer),
            device="cpu",
            adapter=adapter,
            adapter_sha256=known["adapter_sha256"],
        ),
        checkpoint=checkpoint,
    )  # fmt: skip


def tokenizer_sha256(tokenizer: Any) -> str:
    """Of all that decides how a tokenizer cuts a text; the tokenizer has to lie in one file."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode("utf-8", "surrogatepass")).hexdigest()
