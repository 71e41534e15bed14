"""The weights of a GGUF file, dequantized by transformers, as a model folder: config.json, safetensors, tokenizer and a card.

transformers is shown the file whose header was checked, alone in a folder; what it makes of it is checked as any model folder is,
and held against the header, so that nothing of the file is lost without a word.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmkit.errors import LlmkitError, ModelError, OutOfMemoryError, counted, one_line
from llmkit.models import configuration
from llmkit.models.checkpoint import Checkpoint, read_checkpoint
from llmkit.models.gguf import metadata, rope
from llmkit.models.gguf.header import GgufHeader
from llmkit.models.panics import panics
from llmkit.models.view import View

_FILE = "model.gguf"
#: Sizes of the metadata that decide how much is built before a weight is read, and the most they can be.
_SIZES = ("embedding_length", "feed_forward_length", "context_length", "attention.head_count", "expert_count", "vocab_size")
_LARGEST = 2**31
#: Metadata → config.json. An answer ends with each of the ids that GGUF has for it: end of text, of a turn, of a message.
_ENDS = ("eos", "eot", "eom")


def convert(header: GgufHeader, part: Path, reference: str) -> None:
    """Writes the model folder into `part`. Raises ModelError, naming `reference`, for a file that can't be converted whole."""
    _check_sizes(header)
    with _quiet(), _errors(reference):
        view = View("gguf")
        (view.folder / _FILE).symlink_to(header.path.resolve())
        _write_config(header, view, part)
        _write_tokenizer(header, view, part)
        _write_weights(view, part, reference)
    _write_card(header, part, reference)
    _check_whole(header, read_checkpoint(part), reference)


def _check_sizes(header: GgufHeader) -> None:
    """Refuses sizes for which far more would be built than the file has tensors of."""
    layers = header.own("block_count")
    if type(layers) is not int or not 0 <= layers <= len(header.tensors):
        raise ModelError(f"{header.path}: has {str(layers)[:40]} layers and {counted(len(header.tensors), 'tensor')}")
    for name in _SIZES:
        value = header.own(name)
        if value is not None and not isinstance(value, list) and (type(value) is not int or not 0 <= value <= _LARGEST):
            raise ModelError(f"{header.path}: '{name}' is {str(value)[:60]}")
    embeddings, width = header.tensors.get("token_embd.weight"), header.own("embedding_length")
    if embeddings is None or len(embeddings.shape) != 2 or embeddings.shape[1] != width:
        shape = None if embeddings is None else list(embeddings.shape)
        raise ModelError(f"{header.path}: its embeddings (token_embd.weight) are {shape}, its embedding_length is {str(width)[:40]}")
    if not isinstance(header.metadata.get("tokenizer.ggml.tokens"), list):
        raise ModelError(f"{header.path}: has no tokenizer (tokenizer.ggml.tokens)")


def _write_config(header: GgufHeader, view: View, part: Path) -> None:
    from transformers import AutoConfig

    config: dict[str, Any] = configuration.clean(AutoConfig.from_pretrained(view.folder, gguf_file=_FILE).to_dict())
    config.pop("_model_name_or_path", None)  # a title, not a place
    metadata.complete(header, config)
    scaled = rope.scaling(header, config.get("rope_parameters"))
    if scaled is not None:
        config["rope_parameters"] |= scaled
    # a class of transformers has those of one of its models where config.json names none
    ends = list(dict.fromkeys(n for name in _ENDS if (n := header.number(f"tokenizer.ggml.{name}_token_id")) is not None))
    config["eos_token_id"] = ends[0] if len(ends) == 1 else ends or None
    config["bos_token_id"] = header.number("tokenizer.ggml.bos_token_id")
    config["pad_token_id"] = header.number("tokenizer.ggml.padding_token_id")
    (part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    configuration.read(part)


def _write_tokenizer(header: GgufHeader, view: View, part: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(view.folder, gguf_file=_FILE, local_files_only=True).save_pretrained(part)
    settings = part / "tokenizer_config.json"
    settings.write_text(json.dumps(configuration.clean_tokenizer(configuration.optional(part, settings.name))), encoding="utf-8")
    # transformers (5.24) adds the end token of GPT-2 to a vocabulary of its kind that has none, where the model has no embedding for it
    known, path = len(header.metadata["tokenizer.ggml.tokens"]), part / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < known]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_weights(view: View, part: Path, reference: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GgufConfig

    config = AutoConfig.from_pretrained(part, local_files_only=True)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model, info = auto.from_pretrained(
        view.folder,
        gguf_file=_FILE,
        config=config,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    for name, there, wanted in sorted(info["mismatched_keys"]):
        raise ModelError(f"{reference}: '{name}' has the shape {list(there)}, and {list(wanted)} by the file's metadata")
    if info["missing_keys"] or info["unexpected_keys"]:
        name = next(iter(sorted([*info["missing_keys"], *info["unexpected_keys"]])))
        raise ModelError(f"{reference}: its tensors are not those of a {config.model_type} model, such as {name[:200]}")
    _narrow(model, reference)
    model.save_pretrained(part)


def _narrow(model: Any, reference: str) -> None:
    """Keeps each weight in half as many bytes where that loses nothing: those of an F16 or BF16 file. Raises ModelError for NaN."""
    import torch

    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter.sum(dtype=torch.float32)):
            raise ModelError(f"{reference}: the weights '{name}' hold NaN or infinite values", hint="copy or download the file again")
        for dtype in (torch.float16, torch.bfloat16):
            small = parameter.data.to(dtype)
            if torch.equal(small.to(torch.float32), parameter.data):
                parameter.data = small
                break


def _write_card(header: GgufHeader, part: Path, reference: str) -> None:
    languages = header.metadata.get("general.languages")
    front = {
        "license": header.text("general.license"),
        "language": languages if isinstance(languages, list) and all(isinstance(each, str) for each in languages) else None,
    }
    # JSON is YAML
    lines = [f"{name}: {json.dumps(value)}" for name, value in front.items() if value]
    about = f"{header.text('general.name') or header.architecture}\n\nConverted by llmkit from {reference} ({', '.join(header.kinds)})."
    text = "\n".join(["---", *lines, "---", "", about, ""])
    (part / "README.md").write_text(text, encoding="utf-8", errors="replace", newline="\n")


def _check_whole(header: GgufHeader, checkpoint: Checkpoint, reference: str) -> None:
    """Raises ModelError when the model has fewer parameters than the file: transformers passes over tensors that it has no place for.

    No place is needed for the factors of positions, for layers after the last (they guess more than one token at a time), and for
    a projection that is the embeddings once more.
    """
    layers = header.own("block_count") - (header.own("nextn_predict_layers") or 0)
    further = tuple(f"blk.{i}." for i in range(layers, header.own("block_count")))
    kept = {n: t for n, t in header.tensors.items() if not n.startswith("rope_f") and not (further and n.startswith(further))}
    total = sum(tensor.parameters for tensor in kept.values())
    projection = kept["output.weight"].parameters if "output.weight" in kept else 0
    if checkpoint.parameters < total - (projection if checkpoint.config.get("tie_word_embeddings") else 0):
        raise ModelError(
            f"{reference}: transformers reads {checkpoint.parameters:,} of its {total:,} parameters, and answers would be others",
            hint="use the model's own folder, with safetensors",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice of the libraries on stderr."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _errors(reference: str) -> Iterator[None]:
    """What transformers raises on a stranger's file, which may be anything, as ModelError."""
    import transformers

    known = f"{reference}: transformers {transformers.__version__} does not read this GGUF file"
    with panics(lambda reason: ModelError(f"{known}: {reason}")):
        try:
            yield
        except LlmkitError:
            raise
        except MemoryError as exc:
            raise OutOfMemoryError(f"{reference}: out of memory while it was converted", hint="a smaller model") from exc
        except OSError as exc:
            if exc.errno is not None:  # the disk's; transformers' own have no number
                raise
            raise ModelError(f"{known}: {one_line(exc)}") from exc
        except Exception as exc:
            raise ModelError(f"{known}: {one_line(exc)}", hint="use the model's own folder, with safetensors") from exc
