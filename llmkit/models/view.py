"""A folder of llmkit's own making, which is all that a library is shown of a model.

It holds links to the files that were checked and rewritten copies of the small configurations, so that nothing else
that lies in the model's folder, and no name in its configuration, decides what is loaded. Knows files; not tensors.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, UnavailableError
from llmkit.models import configuration
from llmkit.models.checkpoint import TOKENIZER_FILES, Checkpoint
from llmkit.models.small_files import read_text

#: Files that the tokenizers of transformers 5.24 read beside their configuration (vocab_files_names of each class).
VOCABULARIES = (
    *TOKENIZER_FILES,
    *("merges.txt", "added_tokens.json", "special_tokens_map.json", "target.spm", "target_vocab.json", "vocab-src.json"),
    *("vocab-tgt.json", "dict.txt", "bpe.codes", "spm.model", "spm_char.model", "sentencepiece.model", "prophetnet.tokenizer"),
    *("normalizer.json", "emoji.json", "byte_maps.json", "entity_vocab.json", "tekken.json", "tokenizer.tiktoken"),
)
#: Settings of generation that transformers builds objects of while it loads; llmkit uses none of them.
_NOT_IN_FORCE = ("cache_implementation", "cache_config", "compile_config", "watermarking_config", "continuous_batching_config")
TEMPLATE = "chat_template.jinja"
_MAX_TEMPLATE = 1_000_000
#: Of a tokenizer's file; those of 260,000 tokens take 35 MB.
_MAX_VOCABULARY = 512_000_000
#: With the folder's own code allowed to run, its other files are shown, too: but for what would be loaded in place of the weights.
_NEVER = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".safetensors", ".gguf", ".h5", ".msgpack", ".onnx")


class View:
    """A folder that lives as long as this object: some tokenizers read their files again when they are copied or saved."""

    def __init__(self, name: str) -> None:
        try:
            self._home = tempfile.TemporaryDirectory(prefix="llmkit-view-", ignore_cleanup_errors=True)
        except OSError as exc:
            raise UnavailableError(f"no folder for temporary files can be written: {exc.strerror or exc}", hint="set TMPDIR") from exc
        # the name is part of the one under which transformers keeps a model's own code
        self.folder = Path(self._home.name) / (name or "model")
        self.folder.mkdir()

    def link(self, path: Path) -> None:
        """Shows a file under its name."""
        _link(path.resolve(), self.folder / path.name)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file that llmkit made of what it checked."""
        (self.folder / name).write_text(json.dumps(content), encoding="utf-8")


def model_view(checkpoint: Checkpoint) -> View:
    """The configuration, weights and tokenizer of a checked model. Raises ModelError."""
    view = View(checkpoint.folder.name)
    view.write("config.json", configuration.clean(checkpoint.config))
    generation = configuration.optional(checkpoint.folder, "generation_config.json")
    if generation:
        view.write("generation_config.json", {n: v for n, v in configuration.clean(generation).items() if n not in _NOT_IN_FORCE})
    for path in checkpoint.files:
        view.link(path)
    if checkpoint.index is not None:
        view.write("model.safetensors.index.json", {"metadata": {"total_size": checkpoint.bytes}, "weight_map": checkpoint.index})
    _add_tokenizer(view, checkpoint.folder)
    if checkpoint.trusted:
        _add_rest(view, checkpoint.folder)
    return view


def tokenizer_view(folder: Path, base: Checkpoint) -> View | None:
    """The tokenizer that lies in `folder`, beside an adapter of `base`; None where there is none. Raises ModelError, UsageError."""
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        return None
    configuration.refuse_code(folder, {}, base.trusted)
    view = View(folder.name)
    # which class a tokenizer has may hang on the model's type
    view.write("config.json", configuration.clean(base.config))
    _add_tokenizer(view, folder)
    return view


def chat_template(folder: Path) -> str | None:
    """The chat template that lies in `folder` as a file of its own. Raises ModelError."""
    try:
        return read_text(folder / TEMPLATE, _MAX_TEMPLATE)
    except FileNotFoundError:
        return None


def _add_tokenizer(view: View, folder: Path) -> None:
    for name in VOCABULARIES:
        path = folder / name
        if path.is_file():
            if (size := path.stat().st_size) > _MAX_VOCABULARY:
                raise ModelError(f"{path}: has {size:,} bytes; at most {_MAX_VOCABULARY:,} are allowed")
            view.link(path)
        elif os.path.lexists(path):
            raise ModelError(f"{path}: is not a regular file", hint="copy or download the model again")
    settings = configuration.optional(folder, "tokenizer_config.json")
    if settings:
        view.write("tokenizer_config.json", configuration.clean_tokenizer(settings))
    template = chat_template(folder)
    if template is not None:
        (view.folder / TEMPLATE).write_text(template, encoding="utf-8", newline="")
    more = folder / "additional_chat_templates"
    if more.is_dir():
        (view.folder / more.name).mkdir()
        for path in sorted(more.glob("*.jinja"))[:100]:
            (view.folder / more.name / path.name).write_text(read_text(path, _MAX_TEMPLATE), encoding="utf-8", newline="")


def _add_rest(view: View, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        shown = (view.folder / path.name).exists() or path.name.startswith((".", "adapter_")) or path.suffix in _NEVER
        if not shown and not path.name.endswith(".index.json"):
            _link(path.resolve(), view.folder / path.name)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
    except (OSError, NotImplementedError):  # Windows allows links to some users only
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            _hard_link(source, target)


def _hard_link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as exc:
            raise UnavailableError(f"{source} can't be copied to a temporary folder: {exc.strerror or exc}", hint="set TMPDIR") from exc
