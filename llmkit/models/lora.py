"""The configuration of a LoRA adapter: which of peft's settings are known, and what the library is shown of them.

peft 0.21 reads several of them as regular expressions, imports a module that one names, and takes memory for ranks
before any shape is compared. So each is checked here, ranks are held against the adapter's own matrices, and what is
shown to peft is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, UsageError
from llmkit.models.checkpoint import Tensor
from llmkit.models.small_files import read_object

#: A module's name, and the simple patterns that trainers write in place of one.
_NAME = re.compile(r"[\w.-]{1,300}")
_PATTERN = re.compile(r"\^?(?:[\w-]|\\?\.|\\d\+?){1,300}(?:\.\*(?:[\w-]|\\?\.|\\d\+?){1,300})?\$?")
_MAX_PATTERNS = 2000
_LARGEST = 1e30
_PREFIX = "base_model.model."
_MATRIX = re.compile(r"(?P<module>.+)\.(?:lora_(?P<part>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))")


def _whole(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST  # neither infinite nor NaN


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, str) and _NAME.fullmatch(n) for n in value)


def _few_names(value: Any) -> bool:
    return _names(value) and len(value) <= _MAX_PATTERNS  # peft holds each against each module


def _names_or_text(value: Any) -> bool:
    return isinstance(value, str) or _names(value)


def _indices(value: Any) -> bool:
    return type(value) is int or (isinstance(value, list) and all(type(n) is int for n in value))


def _token_indices(value: Any) -> bool:
    groups = value.values() if isinstance(value, dict) else [value]
    return all(isinstance(g, list) and all(type(n) is int and n >= 0 for n in g) for g in groups) and (
        not isinstance(value, dict) or _names(list(value))
    )


def _patterns(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MAX_PATTERNS
        and all(_PATTERN.fullmatch(n) and _number(v) and v > 0 for n, v in value.items())
    )


def _initial(value: Any) -> bool:
    known = ("gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal", "lora_ga", "mica")
    return isinstance(value, bool) or (
        isinstance(value, str) and (value in known or re.fullmatch(r"pissa_niter_\d{1,3}", value) is not None)
    )


#: Settings that are shown to peft, with the check of a value that is not null.
_SHOWN: dict[str, Callable[[Any], bool]] = {
    "peft_type": lambda v: v == "LORA",
    "task_type": lambda v: v in ("CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"),
    "base_model_name_or_path": lambda v: isinstance(v, str),
    "r": _whole,
    "lora_alpha": _number,
    "lora_dropout": _number,
    "fan_in_fan_out": _flag,
    "bias": lambda v: v in ("none", "all", "lora_only"),
    "use_rslora": _flag,
    "use_dora": _flag,
    "lora_bias": _flag,
    "init_lora_weights": _initial,
    "target_modules": _names_or_text,
    "exclude_modules": _names_or_text,
    "target_parameters": _few_names,
    "modules_to_save": _few_names,
    "layers_to_transform": _indices,
    "layers_pattern": lambda v: _few_names([v] if isinstance(v, str) else v),
    "rank_pattern": _patterns,
    "alpha_pattern": _patterns,
    "trainable_token_indices": _token_indices,
    "ensure_weight_tying": _flag,
}
#: Settings that say how an adapter was made, and change no answer.
_IGNORED = frozenset(
    {
        "auto_mapping", "peft_version", "revision", "inference_mode", "megatron_config", "megatron_core", "loftq_config",
        "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size",
    }
)  # fmt: skip


def read(folder: Path) -> dict[str, Any]:
    """adapter_config.json of `folder`, checked. Raises ModelError naming file and field, UsageError for another kind of adapter."""
    path = folder / "adapter_config.json"
    try:
        config = read_object(path)
    except FileNotFoundError as exc:
        raise ModelError(f"{folder}: no adapter_config.json", hint="name the folder that finetune wrote") from exc
    kind = config.get("peft_type", "LORA")
    if kind not in (None, "LORA"):
        raise UsageError(f"{folder}: adapters of type {str(kind)[:40]} are not supported", hint="LoRA and its variants are")
    library = (config.get("auto_mapping") or {}).get("parent_library") if isinstance(config.get("auto_mapping"), dict | None) else "?"
    if library is not None and not str(library).startswith("transformers."):  # peft writes that of the base's class
        raise UsageError(f"{folder}: the adapter comes with its own code ({str(library)[:100]}), which is not run")
    for name, value in config.items():
        if name in _SHOWN:
            if value is not None and not _SHOWN[name](value):
                raise ModelError(f"{path}: '{name}' is {str(value)[:100]}, which is not read", hint=_hint(name))
        elif name not in _IGNORED and value not in (None, False, [], {}):
            raise ModelError(f"{path}: '{name}' is a setting of peft that llmkit does not know", hint="a newer llmkit may know it")
    return config


def shown(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings for peft, each rank held against the matrices. Raises ModelError.

    A regular expression over modules' names is replaced by the names of the modules that have matrices.
    """
    out = {name: value for name, value in config.items() if name in _SHOWN and value is not None}
    out["peft_type"] = "LORA"
    ranks = _check_ranks(path, out, tensors)
    out["r"] = out.get("r", 8) if out.get("r", 8) <= max(ranks.values(), default=0) else max(ranks.values(), default=1)
    for name in ("rank_pattern", "alpha_pattern"):  # peft warns of those that are for no module
        patterns = [(_linear(key), _compiled(key), value) for key, value in out.get(name, {}).items()]
        out[name] = {key: value for key, pattern, value in patterns if any(map(pattern.match, ranks))}
    for name in ("target_modules", "exclude_modules"):  # peft holds each name against each module
        if isinstance(names := out.get(name), list) and len(names) > _MAX_PATTERNS:
            ends = {".".join(parts[i:]) for parts in (module.split(".") for module in ranks) for i in range(len(parts))}
            out[name] = [n for n in names if n in ends] or names[:1]
    targets, excluded = out.get("target_modules"), out.get("exclude_modules")
    if isinstance(targets, str) or isinstance(excluded, str):
        out["target_modules"] = sorted(ranks)
        for name in ("exclude_modules", "layers_to_transform", "layers_pattern"):
            out.pop(name, None)
    return out


def matrices(tensors: Mapping[str, Tensor]) -> dict[tuple[str, str], Tensor]:
    """Each module's pair: (module, 'A' or 'B') → its matrix, [rank, in] or [out, rank]."""
    out = {}
    for name, tensor in tensors.items():
        matched = _MATRIX.fullmatch(name.removeprefix(_PREFIX))
        if matched is not None and len(tensor.shape) == 2:
            out[matched["module"], matched["part"] or matched["embedding"]] = tensor
    return out


def whole_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that are saved whole beside the matrices (modules_to_save, resized embeddings), by the base's name of each."""
    out = {}
    for name, tensor in tensors.items():
        if ".lora_" not in name:
            out[name.removeprefix(_PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")] = tensor
    return out


def _check_ranks(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Module → the rank of its matrices, which has to be the one that the configuration gives it."""
    patterns = [(_compiled(key), value) for key, value in (config.get("rank_pattern") or {}).items()]
    experts = bool(config.get("target_parameters"))
    ranks = {}
    for (module, part), tensor in matrices(tensors).items():
        rank = tensor.shape[0 if part == "A" else 1]
        wanted = next((value for pattern, value in patterns if pattern.match(module)), config.get("r", 8))
        # the matrices of a parameter of N experts have N times the rank
        if rank < 1 or (rank % wanted if experts else rank != wanted):
            raise ModelError(f"{path}: says rank {wanted} for '{module}', whose matrix {part} has {rank}")
        ranks[module] = rank
    largest = max(ranks.values(), default=0)
    for key, value in (config.get("rank_pattern") or {}).items():
        if not _whole(value) or value > largest:
            raise ModelError(f"{path}: 'rank_pattern' says {value} for '{key[:100]}'; no matrix has more than {largest}")
    return ranks


def _linear(key: str) -> str:
    """A pattern whose numbers are taken whole: one of many `\\d+` could be tried in hours of ways otherwise."""
    return key.replace(r"\d+", r"\d++")


def _compiled(key: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({_linear(key)})$")


def _hint(name: str) -> str | None:
    return "names of modules are read, not regular expressions" if name.endswith("pattern") or name == "modules_to_save" else None
