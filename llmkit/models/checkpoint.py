"""What a model folder holds, checked from its small files and headers before any weight is read.

Knows file formats (config.json, tokenizer files, safetensors); not devices, and it imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, UsageError

#: The format's own limit (safetensors 0.8: MAX_HEADER_SIZE).
_MAX_HEADER = 100_000_000
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm", "vocab.json", "vocab.txt")
_DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """A tensor as its header describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.parameters * _DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose parts fit together."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    files: tuple[Path, ...]

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])

    @property
    def parameters(self) -> int:
        return sum(t.parameters for t in self.tensors.values())

    @property
    def bytes(self) -> int:
        return sum(t.bytes for t in self.tensors.values())

    @property
    def is_encoder_decoder(self) -> bool:
        return bool(self.config.get("is_encoder_decoder", False))

    @cached_property
    def sha256(self) -> str:
        """Of the weight files, in the order of their names."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(bytes.fromhex(file_sha256(path)))
        return digest.hexdigest() if len(self.files) > 1 else file_sha256(self.files[0])


def read_checkpoint(folder: Path, *, trust_remote_code: bool = False, need_tokenizer: bool = True) -> Checkpoint:
    """Reads config and headers of `folder`.

    Raises ModelError naming the file that is missing, damaged or a pickle, and UsageError for code that would run.
    """
    config = _read_json(folder, "config.json")
    if "model_type" not in config:
        raise ModelError(f"{folder / 'config.json'}: no 'model_type'", hint="this is not a transformers model folder")
    _refuse_remote_code(folder, config, trust_remote_code)
    if need_tokenizer and not any((folder / name).exists() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder}: no tokenizer (none of {', '.join(_TOKENIZER_FILES[:4])}, ...)", hint="save the tokenizer into the same folder"
        )
    files = _weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_header(path)
    return Checkpoint(folder, config, tensors, files)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file from its header alone, checked against the file's size.

    Format: https://github.com/huggingface/safetensors#format. Raises ModelError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ModelError(f"{path}: truncated ({size} bytes)", hint="copy or download the file again")
        (length,) = struct.unpack("<Q", prefix)
        if length > min(size - 8, _MAX_HEADER):
            raise ModelError(f"{path}: its header claims {length:,} bytes, the file has {size:,}", hint="copy or download the file again")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        spans = sorted((*entry["data_offsets"], name) for name, entry in entries.items())
        tensors = {name: Tensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
        sizes = {name: tensor.bytes for name, tensor in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ModelError(
            f"{path}: its header is not safetensors ({type(exc).__name__}: {exc})", hint="copy or download the file again"
        ) from exc
    end = 0
    for begin, stop, name in spans:
        if begin != end or stop - begin != sizes[name]:
            raise ModelError(f"{path}: tensor '{name}' lies at wrong offsets", hint="copy or download the file again")
        end = stop
    if 8 + length + end != size:
        raise ModelError(
            f"{path}: truncated: {size:,} bytes where its header needs {8 + length + end:,}", hint="copy or download the file again"
        )
    return tensors


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weight_files(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        return (folder / "model.safetensors",)
    if index.exists():
        shards = sorted(set(_read_json(folder, index.name).get("weight_map", {}).values()))
        for shard in shards:
            if Path(shard).name != shard:
                raise ModelError(f"{index}: shard '{shard}' is not a plain file name")
            if not (folder / shard).exists():
                raise ModelError(f"{folder}: shard {shard} is missing", hint="copy or download the model again")
        return tuple(folder / shard for shard in shards)
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise ModelError(
            f"{folder}: only pickle weights ({pickles[0]}), which can run code when they are read; llmkit does not open them",
            hint="convert them where that is safe: AutoModel.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)",
        )
    raise ModelError(f"{folder}: no weights (model.safetensors)", hint="name the folder that holds config.json and model.safetensors")


def _refuse_remote_code(folder: Path, config: dict[str, Any], trusted: bool) -> None:
    if trusted:
        return
    tokenizer = _read_json(folder, "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    code = [str(v) for part in (config, tokenizer) for v in _flat(part.get("auto_map", {}))]
    if code:
        names = ", ".join(sorted({c.rpartition("--")[2].partition(".")[0] + ".py" for c in code}))
        raise UsageError(
            f"{folder}: the model brings Python code of its own ({names})", hint="read it, then add --trust-remote-code to run it"
        )


def _flat(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for v in value.values() for s in _flat(v)]
    if isinstance(value, list):
        return [s for v in value for s in _flat(v)]
    return [value] if isinstance(value, str) else []


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelError(f"{folder}: no {name}", hint="name a folder saved by save_pretrained") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise ModelError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not a JSON object")
    return content
