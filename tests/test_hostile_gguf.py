"""GGUF files that lie about themselves: refused by their headers, with the file's name, in little time and memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from conftest import Run
from tiny_gguf import write

from llmkit.errors import ModelError
from llmkit.models.gguf.header import read_header

STRING, ARRAY, U8, U32, U64 = 8, 9, 0, 4, 10


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


NAMED = entry(b"general.architecture", STRING, text(b"llama"))


def tensor(name: bytes = b"a", dimensions: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


def file(*keys: bytes, tensors: tuple[bytes, ...] = (), data: int = 1024, counts: tuple[int, int] | None = None, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(keys)))) + b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32 + data)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated"),
    "another format": (b"PK\3\4" + b"\0" * 40, "is not a GGUF file"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "another version": (file(NAMED, version=1), "version 1"),
    "all tensors of the world": (file(NAMED, counts=(2**63, 1)), "claims 9,223,372,036,854,775,808 tensors"),
    "all keys of the world": (file(NAMED, counts=(0, 2**40)), "metadata values"),
    "more keys than there are": (file(NAMED, counts=(0, 60_000), data=0)[:-8], "truncated"),
    "more tensors than there are": (file(NAMED, counts=(100_000, 1), data=0), "truncated"),
    "a name without end": (file(struct.pack("<Q", 2**62)), "a name claims"),
    "a text without end": (file(NAMED, entry(b"t", STRING, struct.pack("<Q", 2**62))), "'t' claims"),
    "a text after the end": (file(NAMED, entry(b"t", STRING, struct.pack("<Q", 3_000_000))), "truncated"),
    "a list without end": (file(NAMED, entry(b"l", ARRAY, struct.pack("<IQ", U8, 2**60))), "'l' claims"),
    "a list of long lists": (file(NAMED, entry(b"l", ARRAY, struct.pack("<IQ", ARRAY, 2))), "which is not read"),
    "an unknown kind": (file(NAMED, entry(b"x", 77, b"")), "unknown type 77"),
    "a name twice": (file(NAMED, NAMED), "'general.architecture' is there twice"),
    "bytes that are no text": (file(entry(b"general.architecture", STRING, text(b"\xff\xfe"))), "is not UTF-8"),
    "no architecture": (file(entry(b"x", U32, struct.pack("<I", 1))), "names no architecture"),
    "an architecture that is a number": (file(entry(b"general.architecture", U32, struct.pack("<I", 1))), "names no architecture"),
    "alignment 0": (file(NAMED, entry(b"general.alignment", U32, struct.pack("<I", 0))), "general.alignment"),
    "alignment 2^60": (file(NAMED, entry(b"general.alignment", U64, struct.pack("<Q", 2**60))), "general.alignment"),
    "many dimensions": (file(NAMED, tensors=(text(b"a") + struct.pack("<I", 2**31),)), "dimensions"),
    "sizes that overflow": (file(NAMED, tensors=(tensor(dimensions=(2**40, 2**40, 2**40)),)), "no usable shape"),
    "no size at all": (file(NAMED, tensors=(tensor(dimensions=(0,)),)), "no usable shape"),
    "a part of a block": (file(NAMED, tensors=(tensor(dimensions=(33,), kind=8),)), "no usable shape"),
    "an unknown kind of tensor": (file(NAMED, tensors=(tensor(kind=99),)), "unknown type 99"),
    "after the end of the file": (file(NAMED, tensors=(tensor(offset=2**40),)), "truncated"),
    "far after the end of the file": (file(NAMED, tensors=(tensor(offset=2**64 - 32),)), "no usable shape"),
    "more than the file": (file(NAMED, tensors=(tensor(dimensions=(4096, 4096)),)), "truncated"),
    "one on another": (file(NAMED, tensors=(tensor(b"a"), tensor(b"b", offset=96))), "tensor 'b' lies at a wrong offset, on 'a'"),
    "beside its place": (file(NAMED, tensors=(tensor(offset=3),)), "wrong offset"),
    "a tensor twice": (file(NAMED, tensors=(tensor(), tensor(offset=128))), "tensor 'a' is there twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    content, said = HOSTILE[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"hostile\.gguf") as raised:
        read_header(path)
    assert said in raised.value.message


def test_a_header_that_is_right_is_read(tmp_path: Path) -> None:
    path = tmp_path / "right.gguf"
    path.write_bytes(
        file(NAMED, entry(b"l", ARRAY, struct.pack("<IQ3B", U8, 3, 1, 2, 3)), tensors=(tensor(), tensor(b"b", (64, 2), 8, 128)))
    )
    header = read_header(path)
    assert (header.architecture, header.metadata["l"], header.parameters) == ("llama", [1, 2, 3], 32 + 128)
    assert (header.tensors["b"].shape, header.tensors["b"].bytes, header.kinds) == ((2, 64), 4 * 34, ("Q8_0", "F32"))


def test_every_command_says_which_file_it_is(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE["a list without end"][0])
    rows = tmp_path / "in.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    for arguments in (
        ("generate", "the king", "-m", path),
        ("generate", "the king", "-m", path, "--engine", "ctranslate2"),
        ("models", "show", path),
        ("evaluate", "perplexity", "-i", rows, "--text-field", "prompt", "-m", path),
        ("finetune", rows, "-m", path, "-o", tmp_path / "out"),
        ("translate", "Good morning", "--to", "fr", "-m", path),
    ):
        ran = run(*arguments)
        assert (ran.code, "hostile.gguf: 'l' claims" in ran.err) == (5, True), ran.err


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "tiny.gguf", "Q8_0").read_bytes()
    path = tmp_path / "cut.gguf"
    for length in (*range(0, len(content), 1777), len(content) - 33):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match="truncated"):
            read_header(path)


def test_a_file_that_is_not_there_is_told_from_a_model_of_the_hub(run: Run, tmp_path: Path) -> None:
    for reference in ("missing.gguf", str(tmp_path / "missing.gguf"), "org/../x/missing.gguf"):
        ran = run("generate", "the king", "-m", reference)
        assert (ran.code, f"there is no model file '{reference}'" in ran.err) == (5, True), ran.err
    assert "this run is offline" in run("generate", "the king", "-m", "org/name/some/missing.gguf@v1").err
