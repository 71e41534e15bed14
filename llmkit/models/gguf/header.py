"""What a GGUF file says of itself: its metadata and its tensors, checked before any weight is read.

Knows the format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3); not models, and it imports nothing heavy.
Time and memory are bounded by constants below, whatever numbers stand in a file.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from llmkit.errors import ModelError
from llmkit.models.small_files import open_regular

MAGIC = b"GGUF"
ENDING = ".gguf"
_AGAIN = "copy or download the file again"
_VERSIONS = (2, 3)
#: A vocabulary of 260,000 tokens with its merges takes 15 MB.
_MAX_HEADER = 256_000_000
_MAX_KEYS, _MAX_TENSORS, _MAX_DIMENSIONS = 65_536, 200_000, 4
#: Over all arrays of a header: a vocabulary of 260,000 tokens has a million in tokens, scores, kinds and merges.
_MAX_ELEMENTS = 8_000_000
_MAX_NAME = 65_535
#: Of one text; chat templates are the longest.
_MAX_TEXT = 4_000_000
_MAX_ALIGNMENT = 1 << 20
_LARGEST = 1 << 48
_STRING, _ARRAY = 8, 9
#: Kinds of metadata values of a fixed size, by their numbers.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
#: Kinds of tensors by their numbers: name, weights in a block, bytes of a block (enum ggml_type of ggml.h).
_KINDS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as the header describes it. shape: the slowest dimension first, as in torch; offset: from the file's beginning."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    bytes: int

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """The header of a file."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """As llama.cpp names it."""
        return str(self.metadata["general.architecture"])

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it is of the one family that llama.cpp has of these."""
        return self.architecture in ("t5", "umt5")

    @property
    def bytes(self) -> int:
        """Of the weights in the file."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.parameters for tensor in self.tensors.values())

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its tensors, that of the most parameters first: a model "in Q4_K" keeps some tensors in others."""
        total: dict[str, int] = {}
        for tensor in self.tensors.values():
            total[tensor.kind] = total.get(tensor.kind, 0) + tensor.parameters
        return tuple(sorted(total, key=lambda kind: -total[kind]))

    def own(self, name: str, default: Any = None) -> Any:
        """A value of the architecture's own part of the metadata, such as 'block_count'."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def text(self, name: str) -> str | None:
        """A metadata value that is a text; None where there is none."""
        value = self.metadata.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """A metadata value that is a whole number of 0 or more; None where there is none."""
        value = self.metadata.get(name)
        return value if type(value) is int and value >= 0 else None


def read_header(path: Path) -> GgufHeader:
    """The header of a file, whose tensors lie inside the file and not on each other. Raises ModelError naming the file."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            return _Reader(path, file, size).header()
    except FileNotFoundError as exc:
        raise ModelError(f"{path}: there is no such file") from exc
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror or exc}", hint=_AGAIN) from exc


class _Reader:
    """Goes through a header once, from its beginning to its end."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.at, self.elements = 0, 0

    def header(self) -> GgufHeader:
        if (magic := self.take(4)) != MAGIC:
            raise self.wrong(f"is not a GGUF file: it begins with {magic!r}")
        (version,) = self.unpack("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
            raise self.wrong(
                "is of big-endian byte order, which is not read" if swapped else f"is of GGUF version {version}, 2 or 3 is read"
            )
        tensors, keys = self.unpack("QQ")
        if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
            raise self.wrong(f"its header claims {tensors:,} tensors and {keys:,} metadata values")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            name = self.string(_MAX_NAME, "a name")
            if name in metadata:
                raise self.wrong(f"'{name[:80]}' is there twice")
            (kind,) = self.unpack("I")
            metadata[name] = self.value(name, kind)
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture or len(architecture) > 100:
            raise self.wrong("names no architecture (general.architecture)")
        return GgufHeader(self.path, metadata, self.tensors(tensors, metadata.get("general.alignment", 32)))

    def value(self, name: str, kind: int) -> Any:
        if kind == _STRING:
            return self.string(_MAX_TEXT, f"'{name[:80]}'")
        if kind in _FIXED:
            return self.unpack(_FIXED[kind])[0]
        if kind != _ARRAY:
            raise self.wrong(f"'{name[:80]}' has the unknown type {kind}")
        inner, count = self.unpack("IQ")
        self.elements += count
        if self.elements > _MAX_ELEMENTS:
            raise self.wrong(f"'{name[:80]}' claims {count:,} elements")
        if inner == _STRING:
            return [self.string(_MAX_TEXT, f"'{name[:80]}'") for _ in range(count)]
        if inner not in _FIXED:
            raise self.wrong(f"'{name[:80]}' is a list of the type {inner}, which is not read")
        return list(self.unpack(f"{count}{_FIXED[inner]}"))

    def tensors(self, count: int, alignment: Any) -> dict[str, GgufTensor]:
        if type(alignment) is not int or not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self.wrong(f"'general.alignment' is {str(alignment)[:40]}; a power of two is expected")
        listed = [self.tensor() for _ in range(count)]
        start = -(-self.at // alignment) * alignment
        by_name: dict[str, GgufTensor] = {}
        for name, tensor in listed:
            if name in by_name:
                raise self.wrong(f"tensor '{name[:200]}' is there twice")
            by_name[name] = GgufTensor(tensor.kind, tensor.shape, start + tensor.offset, tensor.bytes)
        end, before = start, ""
        for name, tensor in sorted(by_name.items(), key=lambda item: item[1].offset):
            if tensor.offset < end or tensor.offset % alignment:
                raise self.wrong(f"tensor '{name[:200]}' lies at a wrong offset" + (f", on '{before[:200]}'" if before else ""))
            end, before = tensor.offset + tensor.bytes, name
        if end > self.size:
            raise self.wrong(f"truncated: {self.size:,} bytes where its header needs {end:,}")
        return by_name

    def tensor(self) -> tuple[str, GgufTensor]:
        """The next entry of the table of tensors; its offset counts from where their data begins."""
        name = self.string(_MAX_NAME, "the name of a tensor")
        (count,) = self.unpack("I")
        if count > _MAX_DIMENSIONS:
            raise self.wrong(f"tensor '{name[:200]}' has {count:,} dimensions")
        dimensions = self.unpack(f"{count}Q")
        number, offset = self.unpack("IQ")
        if number not in _KINDS:
            raise self.wrong(f"tensor '{name[:200]}' has the unknown type {number}", hint="a newer llmkit may know it")
        kind, block, size = _KINDS[number]
        total = math.prod(dimensions)
        if total == 0 or max(total, offset, *dimensions, 1) > _LARGEST or (block > 1 and (not dimensions or dimensions[0] % block)):
            raise self.wrong(f"tensor '{name[:200]}' has no usable shape ({kind}, {list(dimensions)})")
        return name, GgufTensor(kind, tuple(reversed(dimensions)), offset, total // block * size)

    def string(self, limit: int, what: str) -> str:
        (length,) = self.unpack("Q")
        if length > limit:
            raise self.wrong(f"{what} claims {length:,} bytes")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self.wrong(f"{what} is not UTF-8") from exc

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def take(self, count: int) -> bytes:
        if self.at + count > min(self.size, _MAX_HEADER):
            raise self.wrong(
                f"truncated: its header goes on after the file's {self.size:,} bytes"
                if self.at + count > self.size
                else f"its header is longer than {_MAX_HEADER:,} bytes"
            )
        data = self.file.read(count)
        self.at += len(data)
        if len(data) != count:
            raise self.wrong("became shorter while it was read")
        return data

    def wrong(self, what: str, hint: str = _AGAIN) -> ModelError:
        return ModelError(f"{self.path}: {what}", hint=hint)
