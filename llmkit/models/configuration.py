"""The configuration of a model: read, checked, and freed of what would make a library load something else.

Knows which names of config.json and tokenizer_config.json transformers acts on when it loads a model (release 5.24:
configuration_utils, modeling_utils, tokenization_utils_base). Nothing is imported from there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, UsageError
from llmkit.models.small_files import read_object

#: Names under which architectures write the number of their layers.
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")
#: Sizes that have to be numbers, and those that can't be zero.
_SIZES = (
    *LAYERS, "num_attention_heads", "n_head", "num_heads", "head_dim", "d_kv", "num_key_value_heads", "max_position_embeddings",
    "n_positions", "n_ctx", "intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim",
    "encoder_attention_heads", "decoder_attention_heads", "moe_intermediate_size", "num_experts", "num_local_experts", "n_routed_experts",
)  # fmt: skip
#: -1 says that there is no limit.
_POSITIONS = "max_position_embeddings"
_POSITIVE = ("vocab_size", "hidden_size", "d_model", "n_embd")
_LARGEST = 2**31
_LONGEST_TYPE = 100
#: Names in a configuration and those inside it, without labels: transformers copies and prints all of them several times.
_MOST_NAMES = 10_000
#: Names that send transformers to other files, or choose code; dropped, as a saved model does not need them.
_REDIRECTS = frozenset(
    {
        "_name_or_path", "name_or_path", "_commit_hash", "configuration_files", "custom_pipelines", "gguf_file",
        "fast_tokenizer_files", "from_slow", "local_files_only", "cache_dir", "token", "use_auth_token", "trust_remote_code",
        "_attn_implementation_internal", "_experts_implementation_internal",
    }
)  # fmt: skip
#: Names of a classifier's classes: transformers makes one for each of `num_labels`, and no model that writes text has any.
_LABELS = frozenset({"num_labels", "id2label", "label2id"})
_ATTENTION: tuple[str, ...] = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_ATTENTION += ("experts_implementation", "_experts_implementation", "_experts_implementation_internal")
#: Implementations that are part of torch and transformers; the name of any other is dropped, and the library chooses.
_BUILT_IN = ("eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm")
#: Loaders of weights that were quantized elsewhere → the packages that transformers needs for them.
_LOADERS = {
    "bitsandbytes": ("bitsandbytes",),
    "bitsandbytes_4bit": ("bitsandbytes",),
    "bitsandbytes_8bit": ("bitsandbytes",),
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "compressed-tensors": ("compressed_tensors",),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "torchao": ("torchao",),
    "fp8": (),
    "mxfp4": (),
}


def read(folder: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """config.json, checked. Raises ModelError naming file and field, and UsageError for code that would run."""
    path = folder / "config.json"
    try:
        config = read_object(path)
    except FileNotFoundError as exc:
        raise ModelError(f"{folder}: no config.json", hint="name a folder saved by save_pretrained") from exc
    kind = config.get("model_type")
    if not isinstance(kind, str) or not 0 < len(kind) <= _LONGEST_TYPE:
        raise ModelError(f"{path}: no 'model_type'", hint="this is not a transformers model folder")
    refuse_code(folder, config, trust_remote_code)
    if config.get("text_config") is None:
        config.pop("text_config", None)
    for name in ("text_config", "encoder", "decoder"):
        if name in config and not isinstance(config[name], dict):
            raise ModelError(f"{path}: '{name}' is {str(config[name])[:60]}; an object is expected")
    if (names := sum(map(len, _parts(clean(config))))) > _MOST_NAMES:
        raise ModelError(f"{path}: has {names:,} names; at most {_MOST_NAMES:,} are read", hint="copy or download the model again")
    for part in _parts(config):
        _check_weights(path, part)
        _check_kernels(path, part, trust_remote_code)
    for name in ("dtype", "torch_dtype"):
        if not isinstance(config.get(name), str | dict | None):
            raise ModelError(f"{path}: '{name}' is {str(config[name])[:60]}; the name of a precision is expected")
    padding = optional(folder, "generation_config.json").get("pad_token_id")
    if not isinstance(padding, int | float | None):
        where = folder / "generation_config.json"
        raise ModelError(f"{where}: 'pad_token_id' is {str(padding)[:60]}; the id of a token is expected")
    for part in (config, text(config)):
        _check_loader(path, part)
        _check_sizes(path, part)
    return config


def text(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that describes the language model."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def clean(config: dict[str, Any]) -> dict[str, Any]:
    """A copy without the names that redirect loading or have no meaning for text, at any depth.

    `auto_map` stays: it has been consented to, or is not there.
    """
    out: dict[str, Any] = {}
    for name, value in config.items():
        if (
            name in _REDIRECTS
            or name in _LABELS
            or name == "transformers_weights"
            or (name in _ATTENTION and not (isinstance(value, str) and value in _BUILT_IN))
        ):
            continue
        out[name] = clean(value) if isinstance(value, dict) else value
    return out


def clean_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of tokenizer_config.json without the names that send the tokenizer to other files."""
    files = ("_file", "_files")
    vocabularies = ("vocab", "source_spm", "target_spm", "merges")
    kept = {n: v for n, v in clean(config).items() if not n.endswith(files)}
    if not isinstance(kept.get("model_max_length", 0), int | float):  # compared with lengths when a text is read
        del kept["model_max_length"]
    return {n: v for n, v in kept.items() if not (n in vocabularies and isinstance(v, str))}


def optional(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object that a folder may have; empty where it has none."""
    try:
        return read_object(folder / name)
    except FileNotFoundError:
        return {}


def refuse_code(folder: Path, config: dict[str, Any], trusted: bool) -> None:
    """Raises UsageError when configuration or tokenizer name Python code of the folder's own, unless `trusted`."""
    tokenizer = optional(folder, "tokenizer_config.json")
    if trusted:
        return
    code = [name for part in (config, tokenizer) for inner in _parts(part) for name in _strings(inner.get("auto_map"))]
    if code:
        names = ", ".join(sorted({c.rpartition("--")[2].partition(".")[0] + ".py" for c in code}))
        raise UsageError(
            f"{folder}: the model comes with its own Python code ({names[:200]})",
            hint="read it, then add `trust_remote_code` to run it",
        )


def refuse_adapter_beside(folder: Path) -> None:
    """transformers would put it on by itself; the answers would be the adapter's, under the name of the base. Raises ModelError."""
    beside = folder / "adapter_config.json"
    if beside.exists():
        raise ModelError(
            f"{beside}: the folder holds both an adapter and a model's weights",
            hint=f"`adapter` {folder} uses both; remove that file to use the model alone",
        )


def _check_weights(path: Path, config: dict[str, Any]) -> None:
    named = config.get("transformers_weights")
    if named not in (None, "model.safetensors", "model.safetensors.index.json"):
        raise ModelError(
            f"{path}: 'transformers_weights' names other weights ({str(named)[:100]}); llmkit reads model.safetensors only",
            hint="save the model again with save_pretrained",
        )


def _check_loader(path: Path, config: dict[str, Any]) -> None:
    settings = config.get("quantization_config")
    if settings is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if method is None and isinstance(settings, dict) and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"
    if not isinstance(method, str) or method not in _LOADERS:
        raise ModelError(
            f"{path}: 'quantization_config' has the method {str(method)[:60]}, which llmkit does not load",
            hint="use the model's unquantized weights, with `quantize` int8 or int4",
        )
    missing = [name for name in _LOADERS[method] if not _installed(name)]
    if missing:
        raise ModelError(
            f"{path}: the weights are quantized with {method}, and {' and '.join(missing)} is not installed",
            hint=f"pip install {' '.join(n.partition('.')[0] for n in missing)}, or use the unquantized model with `quantize` int4",
        )


def _check_kernels(path: Path, part: dict[str, Any], trusted: bool) -> None:
    for name in _ATTENTION:
        value = part.get(name)
        if isinstance(value, str) and ("/" in value or ":" in value) and not trusted:
            raise UsageError(
                f"{path}: '{name}' names a kernel, code that is fetched from a hub ({value[:100]})",
                hint="add `trust_remote_code` to run it, or delete the field",
            )


def _check_sizes(path: Path, part: dict[str, Any]) -> None:
    for name in (*_SIZES, *_POSITIVE):
        value = part.get(name)
        if value is None or isinstance(value, list):  # some architectures have a size a layer
            continue
        least = 1 if name in _POSITIVE else -1 if name == _POSITIONS else 0
        if type(value) is not int or not least <= value <= _LARGEST:
            raise ModelError(f"{path}: '{name}' is {str(value)[:60]}; a number from {least} to {_LARGEST:,} is expected")


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A configuration and those inside it."""
    pending = [config]
    while pending:
        part = pending.pop()
        yield part
        pending += [value for name, value in part.items() if isinstance(value, dict) and name != "auto_map"]


def _strings(value: Any) -> list[str]:
    pending, out = [value], []
    while pending:
        item = pending.pop()
        pending += list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        out += [item] if isinstance(item, str) else []
    return out


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
