"""The journal beside an unfinished output: what is done, synced to disk, one line a batch.

A line is the CRC-32 of its JSON, a space, the JSON. The first line says which run this is. A torn last line is
dropped; anything else that does not read right is refused. Knows lines and files; not rows or models.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmkit.errors import JobChangedError, OutputError, UnavailableError

FORMAT = 1
#: Appends are synced at least this often; a batch takes longer than that on most models.
_SYNC_SECONDS = 1.0


class Journal:
    """An append-only file of batches. `identity` tells this run from others.

    Written through the bare file descriptor: a buffer would try again to write what found no room, when it is closed.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity
        self._synced = 0.0
        self._end = 0  # where the whole lines end
        self._handle = _open(path)
        try:
            self.resumed = self._read_header()
        except BaseException:
            self.close()
            raise

    def entries(self) -> Iterator[dict[str, Any]]:
        """The batches that are done, in the order they were written."""
        end = self._end
        with self.path.open("rb") as file:
            at = len(next(file, b""))
            for line in file:
                at += len(line)
                if at > end:
                    return
                yield _parse(line, self.path)

    def append(self, entry: dict[str, Any]) -> None:
        """Adds a batch. When the disk is full the journal keeps what it had, and UnavailableError is raised."""
        self._write(_line(entry))
        now = time.monotonic()
        if now - self._synced >= _SYNC_SECONDS:
            self.sync()
            self._synced = now

    def sync(self) -> None:
        try:
            os.fsync(self._handle)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def close(self) -> None:
        os.close(self._handle)

    def _read_header(self) -> bool:
        """Whether there was a run to go on with. Drops a torn last line, and writes the header of a new journal."""
        with self.path.open("rb") as file:
            header = file.readline()
            if not header.endswith(b"\n"):
                os.ftruncate(self._handle, 0)
                self._write(_line({"journal": FORMAT, "identity": self.identity}))
                self.sync()
                return False
            found = _parse(header, self.path)
            if found.get("journal") != FORMAT:
                raise JobChangedError(f"{self.path}: a journal of another format ({found.get('journal')})", hint="--restart starts over")
            if changes := differences(found["identity"], self.identity):
                raise JobChangedError(
                    f"{self.path}: the unfinished run was another one: {'; '.join(changes)}",
                    hint="--restart starts over, or run the first command again",
                )
            self._end = len(header) + sum(len(line) for line in file if line.endswith(b"\n"))
        os.ftruncate(self._handle, self._end)
        return True

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            os.lseek(self._handle, self._end, os.SEEK_SET)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as exc:
            os.ftruncate(self._handle, self._end)
            raise self._unwritable(exc) from exc
        self._end += len(line)

    def _unwritable(self, exc: OSError) -> UnavailableError:
        return UnavailableError(
            f"{self.path}: cannot be written: {exc.strerror}; what is done is kept", hint="make room, then run the same command again"
        )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What changed between two identities, one phrase a name."""
    out = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            out.append(f"{name} was {_short(old)}, is {_short(new)}")
    return out


def _short(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _open(path: Path) -> int:
    # A link planted at the journal's name is not followed.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags, 0o666)
    except OSError as exc:
        raise OutputError(f"{path}: the journal cannot be opened: {exc.strerror}", hint="name another output") from exc


def _line(entry: dict[str, Any]) -> bytes:
    # ASCII, so that lone surrogates from JSON input survive.
    content = json.dumps(entry, separators=(",", ":"), default=str).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _parse(line: bytes, path: Path) -> dict[str, Any]:
    crc, _, content = line.rstrip(b"\n").partition(b" ")
    if crc != b"%08x" % zlib.crc32(content):
        raise JobChangedError(f"{path}: the journal was damaged or edited", hint="--restart starts over")
    parsed: dict[str, Any] = json.loads(content)
    return parsed
