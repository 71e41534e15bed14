"""Damage: to bytes of any file, to values of JSON, to what lies under a name."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

#: Pieces that have broken a reader of something.
PIECES: tuple[bytes, ...] = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xef", b"\r", b"\r\n", b"\n\n\n", b"\x1b]0;title\x07", b'"', b"'", b"\\", b"\\u0000", b'"\\ud800"',
    b"NaN", b"Infinity", b"1e999", b"-", b"9" * 5000, b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"[" * 20000 + b"]" * 20000, b"\t" * 300,
    b" " * 20000, b"a" * 20000, b"(a+)+$", b"<", b"<!--" * 2000, b"<b>" * 5000, b"</b>" * 5000, b"<a " * 5000, b"<![<![", b"<![CDATA[", b"&#x110000;",
    b"&" * 3000, b"![" * 5000, b"[" * 5000 + b"](x)", b"`" * 5000, b"*_" * 5000, b"> " * 3000, b"- " * 3000, b"|" * 5000, b"-->", b"1:1:1:1:1",
    b"{{ 'a'*2000000000 }}", b"{% for i in range(99999999) %}x{% endfor %}", b"{{ a.__class__ }}", b"{% endif %}", b"!!python/object/apply:os.system [x]",
    b"&a [*a]", b"__metadata__", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"=cmd|' /C calc'!A0", b"PAR1", b"PK\x03\x04", b"\x1f\x8b\x08",
)  # fmt: skip
#: Values that have broken a reader of JSON.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 255, 10**5, 10**6, 2**31 - 1, 2**31, 2**63, 10**30, 0.5, -0.5, 1e-300, 1e308, "", " ", "x", "0", "../x", "/etc/passwd",
    "a\0b", "\ud800", "org/kernel", "evil.X", "org/name--evil.X", "(", "(a+)+$", "(.*)*x", "a" * 5000, "<|endoftext|>", "\x1b]0;t\x07", [], [[]], [0], [1, 2],
    ["x"], [None], [-1], [{}], {}, {"a": 1}, {"": ""}, {"x": []}, [2**63] * 50, ["x"] * 500, {"content": "x"}, {"default": 5}, {"factor": 1e30},
)  # fmt: skip
#: What may be done to a file by what lies under its name.
KINDS = ("folder", "fifo", "dangling link", "link to itself", "empty", "missing", "link away", "large")


def harmed(chance: Random, data: bytes, *, most: int = 3) -> bytes:
    """A file's bytes after one to `most` accidents."""
    for _ in range(chance.randint(1, most)):
        data = _accident(chance, data)
    return data


def _accident(chance: Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 1, 2, 5, 20, 200, 5000)))
    kind = chance.randrange(9)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + chance.choice(PIECES) + data[at:]
    if kind == 2:
        return data[:at] + chance.choice(PIECES) + data[end:]
    if kind == 3:
        return data[:at] + chance.randbytes(end - at) + data[end:]
    if kind == 4:
        return data[:at] + data[end:]
    if kind == 5:
        return data[:end] + data[at:end] * chance.choice((1, 2, 30)) + data[end:]
    if kind == 6 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    if kind == 7:
        other = chance.randrange(len(data) + 1)
        return data[:at] + data[other : other + end - at] + data[end:]
    return chance.choice((chance.randbytes(chance.randrange(300)), b"", data[::-1], data + data))


def edited(chance: Random, content: Any, *, keys: tuple[str, ...] = (), most: int = 3) -> Any:
    """A JSON value with one to `most` places of it changed. keys: names that are put in, too."""
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, most)):
        holder = _place(chance, content)
        if holder is None:
            return chance.choice(VALUES)
        names = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        name = chance.choice(names) if names else None
        kind = chance.randrange(7)
        if isinstance(holder, dict) and (name is None or kind == 0):
            holder[chance.choice((*keys, "x", ""))] = value(chance)
        elif name is None:
            holder.append(value(chance))
        elif kind == 1:
            del holder[name]
        elif kind == 2:
            holder[name] = [holder[name]]
        elif kind == 3 and isinstance(holder, dict):
            holder[chance.choice((*keys, str(name) * 2, str(name).upper()))] = holder.pop(name)
        elif kind == 4 and isinstance(holder[name], int | float):
            holder[name] = holder[name] * chance.choice((-1, 2, 10**6, 0.5))
        else:
            holder[name] = value(chance)
    return content


def value(chance: Random) -> Any:
    return copy.deepcopy(chance.choice(VALUES))


def _place(chance: Random, content: Any) -> Any:
    """An object or list somewhere in a value, nearer to its top than not; None where there is none."""
    if not isinstance(content, dict | list):
        return None
    while True:
        inner = [v for v in (content.values() if isinstance(content, dict) else content) if isinstance(v, dict | list)]
        if not inner or chance.random() < 0.5:
            return content
        content = chance.choice(inner)


def edit_file(chance: Random, path: Path, *, keys: tuple[str, ...] = ()) -> None:
    """Damages a file of JSON, by its values mostly, else by its bytes."""
    data = path.read_bytes()
    if chance.random() < 0.8:
        with suppress(ValueError, RecursionError):  # damaged before
            data = json.dumps(edited(chance, json.loads(data), keys=keys)).encode("utf-8", "surrogatepass")
    if chance.random() < 0.3:
        data = harmed(chance, data)
    path.write_bytes(data)


def edit_header(chance: Random, path: Path) -> None:
    """Damages a safetensors file: its header's values, the length before it, or its bytes."""
    data = path.read_bytes().ljust(8, b"\0")
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    kind = chance.randrange(4)
    if kind == 0:
        with suppress(ValueError, RecursionError):
            content = edited(chance, json.loads(header), keys=("__metadata__", "dtype", "shape", "data_offsets"))
            header = json.dumps(content).encode("utf-8", "surrogatepass")
    elif kind == 1:
        header = harmed(chance, header)
    elif kind == 2:
        rest = harmed(chance, rest)
    claimed = len(header) if chance.random() < 0.8 else chance.choice((0, 1, 2**63, 2**64 - 1, len(header) + 1, 2**31))
    path.write_bytes(struct.pack("<Q", claimed) + header + rest)


def replace(chance: Random, path: Path) -> None:
    """Puts something else under a file's name."""
    kind = chance.choice(KINDS)
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
        (path / "inner").write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link away":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 31)


class Evil:
    """A pickle of it makes the file `ran` in the folder in which it is opened."""

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, ("ran", "w"))


def plant(chance: Random, folder: Path) -> None:
    """Lays a file into a folder that no one asked for: code, a pickle, or a configuration that is found by its name."""
    name = chance.choice(
        (
            *("pytorch_model.bin", "adapter_model.bin", "optimizer.bin", "training_args.bin", "model.pt", "evil.py", "tokenizer_evil.py"),
            *(
                "adapter_config.json",
                "preprocessor_config.json",
                "custom_generate/generate.py",
                "config.0.0.1.json",
                "model.safetensors.index.json",
            ),
            *(
                "pytorch_model.bin.index.json",
                "added_tokens.json",
                "special_tokens_map.json",
                "chat_template.json",
                "vocab.json",
                "merges.txt",
            ),
            *("tokenizer.model", "generation_config.json", "README.md", "run.json", "params.json", "quantize_config.json"),
        )
    )
    path = folder / name
    if path.is_dir() or path.is_symlink():
        return
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".py"):
        path.write_text("open('ran', 'w').write('x')\n")
    elif name.endswith(".json"):
        path.write_text(json.dumps(value(chance)))
    elif name.endswith(".md"):
        path.write_text(f"---\nlicense: x\ndate: 2024-99-99\nlanguage: {json.dumps(value(chance))}\n---\ntext")
    else:
        path.write_bytes(pickle.dumps(Evil()) if chance.random() < 0.5 else harmed(chance, pickle.dumps(Evil())))


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder, links of data files instead of copies where they stay as they are."""
    return Path(shutil.copytree(source, target))
