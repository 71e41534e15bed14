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
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from llmkit.errors import InputError
from llmkit.rows.base import TableForm

_CHUNK = 1 << 16
#: Characters of one line, row or cell. A file of zeros or an endless device must not fill the memory.
MAX_CHARACTERS = 1 << 27

#: Bytes of a packed file whose content may have more than 2^32.
_LARGEST_GZIP = 1 << 28
#: Codecs for the names of computers; punycode takes time in the square of the length.
_OF_NAMES = ("idna", "punycode")
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
#: How other files than text begin: what they are, and what to do.
_MAGIC = (
    (b"\x1f\x8b", "gzip", "unpack it first, or give it a name that ends with .gz"),
    (b"PAR1", "parquet", "`input_format` parquet"),
    (b"PK\x03\x04", "a ZIP archive (or .xlsx, .docx)", "unpack it, or save the sheet as .csv"),
    (b"\xfd7zXZ\x00", "xz", "unpack it first"),
    (b"BZh", "bzip2", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unpack it first"),
)


class Place(NamedTuple):
    """Where a stream of rows stood: behind so many rows and lines; and what had been read of the file by then, for one who comes back.

    read_as: how lines became rows. bytes: read from the file, which may be a little more than those rows; sha256: of these bytes.
    """

    read_as: str
    rows: int
    lines: int
    bytes: int
    sha256: str


class Source:
    """An opened input: its bytes, once, with their SHA-256 as they go by.

    The hash is of the file as it lies on disk, compressed or not. Raises InputError when the path can't be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else path
        self._hash = hashlib.sha256()
        self._file = _open(path)
        self._raw = _Hashing(self._file, self._hash)
        self._size = _content_size(path)
        self._read_bytes = self._lines = 0
        #: Rows that the file itself says it has.
        self.rows: int | None = None
        self._stream = self._read()
        #: Whether the content read so far ends with a line end (in UTF-16 and UTF-32 with zero bytes behind it).
        self.ends_line = False
        #: The first line that a carriage return alone ends, and whether a line feed ends another (see `lines`).
        self.first_cr: int | None = None
        self.line_feeds = False
        #: Whether the content begins with a byte-order mark, known once text was read.
        self.marked = False
        #: How its table is written, known once the header was read.
        self.table: TableForm | None = None
        #: What `skip` has left out.
        self.rows_skipped = self.lines_skipped = self.bytes_skipped = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path != "-":
            self._file.close()

    @property
    def sha256(self) -> str:
        """Of the bytes read so far: of the whole file once it has been read to its end."""
        return self._hash.hexdigest()

    @property
    def packed(self) -> bool:
        """Whether the content is gzip, by the ending of the name."""
        return self.path.lower().endswith(".gz")

    @property
    def whole(self) -> bool:
        """Whether all of the content was read."""
        return self._read_bytes == self._size

    @property
    def lines_expected(self) -> int | None:
        """Lines of the whole file, by its size and those in the bytes read so far; None for a pipe, and before any was read."""
        if not self._size or not self._read_bytes or self._read_bytes > self._size:
            return None
        lines = self._lines + (not self.ends_line)
        return lines if self.whole else max(lines, round(self._lines * self._size / self._read_bytes))

    def first(self) -> bytes:
        """The first piece of the content, which stays in the stream."""
        chunk = next(self._stream, b"")
        self._stream = itertools.chain([chunk] if chunk else [], self._stream)
        return chunk

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of at most 64 KiB, decompressed when the name ends with .gz. Raises InputError."""
        for chunk in self._stream:
            self.ends_line = chunk[-4:].rstrip(b"\0").endswith((b"\n", b"\r"))
            yield chunk

    def place(self, read_as: str, rows: int, lines: int) -> Place:
        """Where the stream stands, behind this many rows and lines."""
        return Place(read_as, rows, lines, self._raw.bytes, self.sha256)

    def skip(self, place: Place) -> bool:
        """Goes behind `place`, where nothing has been read yet and the file begins as it did then; else changes nothing.

        For a file that is not packed, whose lines end with a line feed, in an encoding where that is one byte.
        """
        if self._raw.bytes or not self._begins_as(place):
            return False
        left = place.lines
        while left and (chunk := next(self._stream, b"")):
            ends = chunk.count(b"\n")
            if ends < left:
                left, self.bytes_skipped = left - ends, self.bytes_skipped + len(chunk)
                continue
            at = 0
            for _ in range(left):
                at = chunk.index(b"\n", at) + 1
            self.bytes_skipped += at
            self._stream = itertools.chain([chunk[at:]] if chunk[at:] else [], self._stream)
            break
        self.rows_skipped, self.lines_skipped = place.rows, place.lines
        return True

    def _begins_as(self, place: Place) -> bool:
        left, digest = place.bytes, hashlib.sha256()
        with open(self.path, "rb") as file:
            while left and (chunk := file.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
        return not left and digest.hexdigest() == place.sha256

    def _read(self) -> Iterator[bytes]:
        reader: Any = io.BufferedReader(self._raw, _CHUNK)
        if self.packed:
            reader = gzip.GzipFile(fileobj=reader)
        while True:
            try:
                chunk = reader.read(_CHUNK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
                raise InputError(
                    f"is not a complete gzip file ({exc})", path=self.name, hint="make or copy it again; 'gzip -t' tests it"
                ) from exc
            except OSError as exc:
                raise InputError(f"cannot be read: {exc.strerror}", path=self.name) from exc
            if not chunk:
                return
            self._read_bytes += len(chunk)
            self._lines += chunk.count(b"\n") or chunk.count(b"\r")
            yield chunk


class _Hashing(io.RawIOBase):
    """Passes bytes through and hashes them."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file, self._digest, self.bytes = file, digest, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read(len(buffer))
        self._digest.update(chunk)
        self.bytes += len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def texts(source: Source, encoding: str = "utf-8") -> Iterator[str]:
    """The content of `source` as text, in pieces that never end between CR and LF. A byte-order mark is dropped.

    Raises InputError naming the byte and line that can't be decoded, or an unknown encoding.
    """
    decoder = text_decoder(encoding, source.name)
    newlines = io.IncrementalNewlineDecoder(None, translate=False)
    number, offset, begun = 1 + source.lines_skipped, source.bytes_skipped, source.bytes_skipped > 0
    for chunk in itertools.chain(source.chunks(), [b""]):
        if offset == 0:
            _refuse_other_content(chunk, encoding, source.name)
            source.marked = chunk.startswith(_MARKS)
        pending = len(decoder.getstate()[0])
        try:
            text = newlines.decode(decoder.decode(chunk, not chunk), not chunk)
        except UnicodeDecodeError as exc:
            # The decoder's object is what it kept back and this chunk together.
            line = number + _line_ends(bytes(exc.object[: exc.start]))
            likely = "utf-16-le" if b"\0" in exc.object else "latin-1"
            raise InputError(
                f"byte {offset - pending + exc.start + 1} (0x{exc.object[exc.start]:02x}) is not {encoding}",
                path=source.name,
                line=line,
                hint=f"name the file's encoding with `encoding`, for example `encoding` {likely}",
            ) from exc
        except UnicodeError as exc:
            hint = "name its byte order: utf-16-le or utf-16-be" if "BOM" in str(exc) else "utf-8, utf-16, latin-1, cp1252, ..."
            raise InputError(f"is not {encoding}: {exc}", path=source.name, line=number, hint=f"`encoding`: {hint}") from exc
        offset += len(chunk)
        if text:
            text, begun = text if begun else text.removeprefix("\ufeff"), True
            number += text.count("\n") + text.count("\r") - text.count("\r\n")
            yield text


def lines(source: Source, encoding: str = "utf-8", *, ends: bool = False) -> Iterator[str]:
    """The lines of `source`; ends: each with its line end, as it stands. A byte-order mark is dropped.

    Raises InputError for what can't be decoded, and for a line of more than `MAX_CHARACTERS`.
    """
    rest: list[str] = []
    length, number = 0, 1 + source.lines_skipped
    for text in texts(source, encoding):
        # a piece that ends inside a line matches up to its end; the last match is empty
        for match in _LINE.finditer(text):
            piece = match[0]
            if piece.endswith(("\n", "\r")):
                if piece.endswith("\n"):
                    source.line_feeds = True
                elif source.first_cr is None:
                    source.first_cr = number
                yield "".join([*rest, piece if ends else piece.rstrip("\r\n")])
                rest, length, number = [], 0, number + 1
            elif piece:
                rest.append(piece)
                length += len(piece)
                if length > MAX_CHARACTERS:
                    raise InputError(f"a line of more than {MAX_CHARACTERS:,} characters", path=source.name, line=number)
    if rest:
        yield "".join(rest)


def read_text(path: str, encoding: str = "utf-8") -> str:
    """The whole text of a file or, with '-', of standard input: without byte-order mark and last line end, each line end as LF.

    Raises InputError naming the byte and line that can't be decoded.
    """
    with Source(path) as source:
        return "\n".join(lines(source, encoding))


def text_decoder(encoding: str, name: str) -> codecs.IncrementalDecoder:
    """A strict decoder of a text encoding. Raises InputError for a name that is none."""
    hint = "`encoding`: utf-8, utf-16, latin-1, cp1252, ..."
    try:
        info = codecs.lookup(encoding)
        if info.name in _OF_NAMES:
            raise LookupError("not a text encoding")
        b"a".decode(encoding, "ignore")  # refuses codecs that give no text, such as base64
        # utf-8-sig would hold back, and at the end drop, what may begin a byte-order mark
        return codecs.getincrementaldecoder("utf-8" if info.name == "utf-8-sig" else encoding)("strict")
    except UnicodeError as exc:
        raise InputError(f"encoding '{encoding}' can't be used: {exc}", path=name, hint=hint) from exc
    except (LookupError, ValueError) as exc:
        what = "is not a text encoding" if "not a text encoding" in str(exc) else "is not known"
        raise InputError(f"encoding {encoding!r} {what}", path=name, hint=hint) from exc


def _line_ends(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _refuse_other_content(chunk: bytes, encoding: str, name: str) -> None:
    """What begins like something else than text in this encoding. Raises InputError."""
    named = encoding.lower().replace("-", "").replace("_", "")
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not named.startswith(("utf16", "utf32")):
        raise InputError("byte 1: this is UTF-16, not " + encoding, path=name, line=1, hint="add `encoding` utf-16")
    for magic, what, hint in _MAGIC:
        if chunk.startswith(magic) and (b"\0" in chunk or magic == b"\x1f\x8b"):
            raise InputError(f"holds {what}, not text", path=name, hint=hint)


def _content_size(path: str) -> int | None:
    """Bytes of a file's content, as far as its directory or its own end tells; None for what is no file.

    gzip's last four bytes are the size of the last member: right for most files, an estimate that is too small for others.
    """
    if path == "-" or not os.path.isfile(path):
        return None
    size = os.path.getsize(path)
    if not path.lower().endswith(".gz"):
        return size
    if not 18 < size < _LARGEST_GZIP:  # less than an empty one, or the size may have gone round
        return None
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _open(path: str) -> IO[bytes]:
    if path == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise InputError("standard input is closed", hint="pipe rows in, or name a file with `input`")
        return sys.stdin.buffer
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise InputError("is a folder; a file of rows is needed", path=path)
        return open(path, "rb")  # the Source closes it
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", path=path) from exc
    except ValueError as exc:  # an embedded NUL, or half a surrogate pair
        raise InputError(f"cannot be read: {exc}", path=repr(path)) from exc
