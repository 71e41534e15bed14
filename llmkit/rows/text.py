"""Bytes become lines: decompression, decoding with the place of a bad byte, line ends of every kind.

Knows files and encodings; not what a line means. A line ends at LF, CRLF or CR; never at U+2028 or a form feed.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import itertools
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from typing import IO, Any

from llmkit.errors import InputError

_CHUNK = 1 << 16


class Source:
    """An opened input: its bytes, once, with their SHA-256 as they go by.

    The hash is of the file as it lies on disk, compressed or not. Raises InputError when the path can't be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else path
        self._hash = hashlib.sha256()
        self._file = _open(path)
        #: Whether the content read so far ends with a line end (in UTF-16 and UTF-32 with zero bytes behind it).
        self.ends_line = False

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path != "-":
            self._file.close()

    @property
    def sha256(self) -> str:
        """Of the bytes read so far: of the whole file once it has been read to its end."""
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of at most 64 KiB, decompressed when the name ends with .gz."""
        reader: Any = io.BufferedReader(_Hashing(self._file, self._hash), _CHUNK)
        if self.path.endswith(".gz"):
            reader = gzip.GzipFile(fileobj=reader)
        while True:
            try:
                chunk = reader.read(_CHUNK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
                raise InputError(f"is not a whole gzip file ({exc})", path=self.name) from exc
            except OSError as exc:
                raise InputError(f"cannot be read: {exc.strerror}", path=self.name) from exc
            if not chunk:
                return
            self.ends_line = chunk[-4:].rstrip(b"\0").endswith((b"\n", b"\r"))
            yield chunk

    def binary(self) -> IO[bytes]:
        """The file itself, for formats that seek."""
        return self._file


class _Hashing(io.RawIOBase):
    """Passes bytes through and hashes them."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file, self._digest = file, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read(len(buffer))
        self._digest.update(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def lines(source: Source, encoding: str = "utf-8", *, first: bytes = b"") -> Iterator[str]:
    """The lines of `source`, each without its end. A byte-order mark is dropped.

    first: bytes already taken from the source. Raises InputError naming the byte and line that can't be decoded.
    """
    try:
        decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)("strict")
    except LookupError as exc:
        raise InputError(f"unknown encoding '{encoding}'", path=source.name, hint="utf-8, utf-16, latin-1, cp1252, ...") from exc
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    rest: list[str] = []
    number, offset = 1, 0

    def decoded(chunk: bytes, final: bool) -> str:
        pending = len(decoder.getstate()[0])
        try:
            return newlines.decode(decoder.decode(chunk, final), final)
        except UnicodeDecodeError as exc:
            # The decoder's object is what it held back and this chunk together.
            at = offset - pending + exc.start
            line = number + sum(1 for _ in _ends(bytes(exc.object[: exc.start])))
            raise InputError(
                f"byte {at + 1} (0x{exc.object[exc.start]:02x}) is not {encoding}",
                path=source.name,
                line=line,
                hint="name the file's encoding with --encoding, for example --encoding latin-1",
            ) from exc

    for chunk in itertools.chain([first] if first else [], source.chunks()):
        if offset == 0:
            _refuse_utf16(chunk, encoding, source.name)
        text = decoded(chunk, False)
        offset += len(chunk)
        parts = text.split("\n")
        if len(parts) > 1:
            yield "".join([*rest, parts[0]])
            yield from parts[1:-1]
            number += len(parts) - 1
            rest = []
        rest.append(parts[-1])
    tail = "".join([*rest, decoded(b"", True)])
    if tail:  # a final CR becomes a line end only now
        yield from tail.removesuffix("\n").split("\n")


def _ends(data: bytes) -> Iterator[None]:
    for line in data.splitlines(keepends=True):
        if line.endswith((b"\n", b"\r")):
            yield None


def _refuse_utf16(chunk: bytes, encoding: str, name: str) -> None:
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not encoding.lower().replace("-", "").startswith("utf16"):
        raise InputError("byte 1: this is UTF-16, not " + encoding, path=name, line=1, hint="add --encoding utf-16")


def _open(path: str) -> IO[bytes]:
    if path == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise InputError("standard input is closed", hint="pipe rows in, or name a file with --input")
        return sys.stdin.buffer
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise InputError("is a folder; a file of rows is needed", path=path)
        return open(path, "rb")  # the Source closes it
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", path=path) from exc
    except ValueError as exc:  # an embedded NUL
        raise InputError(f"cannot be read: {exc}", path=repr(path)) from exc
