"""What a model folder holds, checked from its small files and headers before any weight is read.

Knows file formats (config.json, tokenizer files, safetensors); not devices, and it imports no torch.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError
from llmkit.files import file_sha256
from llmkit.models import configuration
from llmkit.models.small_files import MAX_INDEX, open_regular, parse_object, read_object

#: The format allows 100 MB (safetensors 0.8: MAX_HEADER_SIZE); as many tensors as a file may have take 15.
_MAX_HEADER = 32_000_000
#: Of a file and of a model: those with the most experts have about 150,000, over many files. Each takes time when it is loaded.
_MAX_TENSORS, _MAX_ALL_TENSORS = 100_000, 200_000
#: No known tensor of a language model has more.
_MAX_DIMENSIONS = 16
_AGAIN = "copy or download the file again"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm", "vocab.json", "vocab.txt")
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
        """The product of the shape; 1 for a single number."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        return self.parameters * _DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose parts fit together."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    files: tuple[Path, ...]
    #: Shard of each tensor, by name, where there is more than one weight file.
    index: Mapping[str, str] | None = None
    #: Whether the user allowed the folder's own Python code to run.
    trusted: bool = False

    @property
    def model_type(self) -> str:
        """The architecture, as config.json names it."""
        return str(self.config["model_type"])

    @property
    def parameters(self) -> int:
        """Numbers in all tensors of the weight files."""
        return sum(t.parameters for t in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Bytes of all tensors in the weight files, without headers."""
        return sum(t.bytes for t in self.tensors.values())

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether config.json says encoder-decoder."""
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
    config = configuration.read(folder, trust_remote_code=trust_remote_code)
    if need_tokenizer and not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{folder}: no tokenizer (none of {', '.join(TOKENIZER_FILES[:4])}, ...)", hint="save the tokenizer into the same folder"
        )
    files, index = _weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for path in files:
        header = read_header(path)
        double = next((name for name in header if name in tensors), None)
        if double is not None:
            raise ModelError(f"{path}: tensor '{double[:200]}' is also in another shard", hint="copy or download the model again")
        if index is not None and (lost := next((n for n, shard in index.items() if shard == path.name and n not in header), None)):
            raise ModelError(f"{path}: tensor '{lost[:200]}' is in the index but not in the file", hint="copy or download the model again")
        tensors |= header
        if len(tensors) > _MAX_ALL_TENSORS:
            raise ModelError(f"{folder}: has more than {_MAX_ALL_TENSORS:,} tensors, the most that is read")
    _check_layers(folder, config, tensors)
    return Checkpoint(folder, config, tensors, files, index, trust_remote_code)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file from its header alone, checked against the file's size.

    Format: https://github.com/huggingface/safetensors#format. Raises ModelError.
    """
    raw, size = _raw_header(path)
    try:
        header = parse_object(raw)
    except ValueError as exc:
        raise ModelError(f"{path}: its header is not safetensors: it {exc}", hint=_AGAIN) from exc
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise ModelError(f"{path}: its header is not safetensors: '__metadata__' is not an object of texts", hint=_AGAIN)
    if len(header) > _MAX_TENSORS:
        raise ModelError(f"{path}: has {len(header):,} tensors; at most {_MAX_TENSORS:,} are read from one file")
    tensors: dict[str, Tensor] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        tensors[name], begin, stop = _entry(path, name, entry)
        spans.append((begin, stop, name))
    end = 0
    for begin, stop, name in sorted(spans):
        if begin != end or stop - begin != tensors[name].bytes:
            raise ModelError(f"{path}: tensor '{name[:200]}' has wrong offsets", hint=_AGAIN)
        end = stop
    if 8 + len(raw) + end != size:
        raise ModelError(f"{path}: truncated: {size:,} bytes where its header needs {8 + len(raw) + end:,}", hint=_AGAIN)
    return tensors


def _raw_header(path: Path) -> tuple[bytes, int]:
    """The header's bytes and the file's size."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            if len(prefix) < 8:
                raise ModelError(f"{path}: truncated ({size} bytes)", hint=_AGAIN)
            (length,) = struct.unpack("<Q", prefix)
            if length > min(size - 8, _MAX_HEADER):
                raise ModelError(f"{path}: its header claims {length:,} bytes, the file has {size:,}", hint=_AGAIN)
            return file.read(length), size
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror or exc}", hint=_AGAIN) from exc


def _entry(path: Path, name: str, entry: Any) -> tuple[Tensor, int, int]:
    """A tensor of the header, with the offsets where it begins and ends."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(stop)]} if dtype in _DTYPE_BYTES:
            if len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape) and 0 <= begin <= stop:
                return Tensor(dtype, tuple(shape)), begin, stop
        case {"dtype": str(dtype)} if dtype not in _DTYPE_BYTES:
            raise ModelError(f"{path}: tensor '{name[:200]}' has the unknown type {dtype[:40]}", hint="a newer llmkit may know it")
    raise ModelError(f"{path}: its header is not safetensors: tensor '{name[:200]}' has no usable type, shape and offsets", hint=_AGAIN)


def _weight_files(folder: Path) -> tuple[tuple[Path, ...], dict[str, str] | None]:
    """The weight files, and which tensor is in which where an index says so."""
    if (folder / "model.safetensors").exists():
        return (folder / "model.safetensors",), None
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = _weight_map(index)
        shards = sorted(set(weight_map.values()))
        for shard in shards:
            if not (folder / shard).exists():
                raise ModelError(f"{folder}: shard {shard} is missing", hint="copy or download the model again")
        return tuple(folder / shard for shard in shards), weight_map
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise ModelError(
            f"{folder}: only pickle weights ({pickles[0]}), which can run code when they are read; llmkit does not open them",
            hint="convert them where that is safe: AutoModel.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)",
        )
    raise ModelError(f"{folder}: no weights (model.safetensors)", hint="name the folder that holds config.json and model.safetensors")


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_object(index, MAX_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: 'weight_map' is not an object that names a file for each tensor", hint=_AGAIN)
    for shard in set(map(str, weight_map.values())):
        # "\\" and ":" are separators on Windows
        if Path(shard).name != shard or not shard.endswith(".safetensors") or set(shard) & set("\\:\0"):
            raise ModelError(f"{index}: shard '{shard[:200]}' is not a plain file name ending in .safetensors")
    return weight_map


def _check_layers(folder: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuses a configuration with far more layers than the weights have: all would be built before one is known to be missing.

    Layers may be shared, so that a few more are no fault; transformers compares them one by one.
    """
    named = [part.get(name) for part in (config, configuration.text(config)) for name in configuration.LAYERS]
    wanted = max((n for n in named if isinstance(n, int)), default=0)
    # how many numbers there are, not the highest: one tensor can name any
    present = len({part for name in tensors for part in name.split(".") if part.isdecimal()})
    if wanted > 2 * present + 100:
        raise ModelError(
            f"{folder / 'config.json'}: asks for {wanted:,} layers, the weights have {present:,}", hint="copy or download the model again"
        )
