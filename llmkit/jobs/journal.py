"""The journal beside an unfinished output: what is done, synced to disk, one line per batch.

A line is a CRC-32, a space and JSON. The checksum goes on from that of the line before, so lines of another run can't stand
under this run's header. The first line says which run this is. A torn last line is dropped; anything else that does not read
right is refused. Some entries are marks: they tell one who goes on what need not be read again (see marks.py), and are kept apart.
Knows lines and files; not rows or models.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from llmkit.errors import JobChangedError, OutputError
from llmkit.files import open_own, unwritable
from llmkit.records import differences
from llmkit.rows.values import MAX_DEPTH, from_json, to_json

FORMAT = 4
#: The first name in an entry that is a mark.
MARK = "mark"
_MARK_START = b'{"mark"'
#: Appends are synced at least this often; a batch takes longer than that on most models.
_SYNC_SECONDS = 1.0
#: Bytes of the header, and of an entry: a batch of answers. Longer lines are none of ours, and would fill the memory.
_MAX_HEADER, _MAX_LINE = 1 << 24, 1 << 30
#: Bytes that are looked at before more of a line is read, and of a tail of zeros, which a disk may leave of a line that was being written.
_PIECE, _MAX_ZEROS = 1 << 20, 1 << 26
#: How a header of ours begins; a torn one is a beginning of that.
_HEADER = re.compile(rb'[0-9a-f]{8} \{"journal"')
_HEADER_START = b'00000000 {"journal"'


Changes = Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]]


class Journal:
    """An append-only file of entries. `identity` tells this run from others.

    changes: phrases of what keeps this run from continuing another, of the two identities. begun_as: the identity that began the journal.
    Written through the bare file descriptor: a buffer would try again to write what found no room, when it is closed.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], changes: Changes = differences) -> None:
        self.path, self.identity, self._changes = path, dict(identity), changes
        self.begun_as = self.identity
        self._synced = 0.0
        self._end = 0  # where the complete lines end
        self._crc = 0  # of the last complete line
        #: The marks that were there, in their order.
        self.marks: list[dict[str, Any]] = []
        self._handle = open_own(path, "the journal")
        try:
            self.resumed = self._read()
        except BaseException:
            self.close()
            raise

    @property
    def end(self) -> int:
        """Bytes of what was appended so far: where the next entry will begin."""
        return self._end

    def entries(self, begin: int = 0) -> Iterator[dict[str, Any]]:
        """The entries that are there, in the order they were written, without marks. begin: an earlier `end` to start from.

        Raises JobChangedError for a line that is damaged; where it starts, the line is taken for what it says it follows.
        """
        end, crc, at = self._end, None, begin
        with self.path.open("rb") as file:
            file.seek(begin)
            for line in file:
                at += len(line)
                if at > end:
                    return
                if at == len(line) or line.startswith(_MARK_START, 9):  # the header, or a mark
                    crc = _crc_of(line)
                    continue
                entry, crc = _parse(line, crc, self.path)
                yield entry

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry. When the disk is full the journal keeps what it had, and UnavailableError is raised."""
        self._write(entry)
        now = time.monotonic()
        if now - self._synced >= _SYNC_SECONDS:
            self.sync()
            self._synced = now

    def sync(self) -> None:
        """Forces what was appended to disk."""
        try:
            os.fsync(self._handle)
        except OSError as exc:
            raise unwritable(str(self.path), exc) from exc

    def close(self) -> None:
        """Closes the file; the journal stays."""
        os.close(self._handle)

    def _read(self) -> bool:
        """Whether there was a run to continue. Drops a torn last line, and writes the header of a new journal."""
        with self.path.open("rb") as file:
            header = file.readline(_MAX_HEADER)
            _check_ours(header, self.path)
            if len(header) == _MAX_HEADER:
                raise damaged(self.path)
            if not header.endswith(b"\n"):
                return self._begin()
            content, self._crc = _parse(header, 0, self.path)
            if content.get("journal") != FORMAT:
                raise JobChangedError(f"{self.path}: a journal of another format ({content.get('journal')})", hint="`restart` starts over")
            before = content.get("identity")
            if not isinstance(before, dict):
                raise damaged(self.path)
            self.begun_as = before
            if changes := self._changes(before, self.identity):
                # that run did nothing: an encoding that was wrong, a file that was not there
                if not _next_line(file, self.path).endswith(b"\n"):
                    return self._begin()
                raise JobChangedError(
                    f"{self.path}: the unfinished run used other options: {'; '.join(changes)}",
                    hint="`restart` starts over, or run the first command again",
                )
            self._end = len(header)
            while line := _next_line(file, self.path):
                if line.endswith(b"\n"):
                    if line.startswith(_MARK_START, 9):
                        mark, self._crc = _parse(line, self._crc, self.path)
                        self.marks.append(mark)
                    else:
                        self._crc = _checked(line, self._crc, self.path)
                    self._end += len(line)
        os.ftruncate(self._handle, self._end)
        return True

    def _begin(self) -> bool:
        """Writes the header of a new journal, in the place of what is there; False: there was no run to continue."""
        os.ftruncate(self._handle, 0)
        self.begun_as, self._crc = self.identity, 0
        self._write({"journal": FORMAT, "identity": self.identity})
        self.sync()
        return False

    def _write(self, entry: Mapping[str, Any]) -> None:
        line, crc = _line(entry, self._crc)
        rest = memoryview(line)
        try:
            os.lseek(self._handle, self._end, os.SEEK_SET)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as exc:
            os.ftruncate(self._handle, self._end)
            raise unwritable(str(self.path), exc) from exc
        self._end += len(line)
        self._crc = crc


def check_journal(path: Path) -> None:
    """Refuses what lies at a journal's name and is not one of llmkit's. Raises OutputError."""
    handle = open_own(path, "the journal") if path.exists() else None
    if handle is not None:
        try:
            _check_ours(os.pread(handle, 64, 0).partition(b"\n")[0], path)
        finally:
            os.close(handle)


def damaged(path: Path) -> JobChangedError:
    """The error for a journal that does not read as it was written."""
    return JobChangedError(f"{path}: the journal was damaged or edited", hint="`restart` starts over")


def _next_line(file: IO[bytes], path: Path) -> bytes:
    """The next line, empty behind the last. Raises JobChangedError for one that no run writes."""
    parts: list[bytes] = []
    while part := file.readline(_PIECE):
        parts.append(part)
        if part.endswith(b"\n"):
            break
        left = os.fstat(file.fileno()).st_size - file.tell()
        if len(parts) * _PIECE > _MAX_LINE or (b"\0" in part and left > _MAX_ZEROS):
            raise damaged(path)
    return b"".join(parts)


def _check_ours(start: bytes, path: Path) -> None:
    short = start[: len(_HEADER_START)]
    torn = re.fullmatch(rb"[0-9a-f]{0,8}", short[:8]) is not None and short[8:] == _HEADER_START[8 : len(short)]
    if not (_HEADER.match(start) or torn):
        raise OutputError(f"{path}: not a journal of llmkit", hint="move it away, or name another output")


def _line(entry: Mapping[str, Any], crc: int) -> tuple[bytes, int]:
    """The line of an entry that follows one with the checksum `crc`, and its own checksum."""
    content = to_json(entry, separators=(",", ":"), default=str).encode("utf-8")
    own = zlib.crc32(content, crc)
    return b"%08x %s\n" % (own, content), own


def _parse(line: bytes, crc: int | None, path: Path) -> tuple[dict[str, Any], int]:
    own = _checked(line, crc, path)
    try:
        # an entry is a few levels around its rows
        entry = from_json(line[9:].decode("utf-8"), max_depth=MAX_DEPTH + 8)
    except (ValueError, RecursionError) as exc:
        raise damaged(path) from exc
    if not isinstance(entry, dict):
        raise damaged(path)
    return entry, own


def _checked(line: bytes, crc: int | None, path: Path) -> int:
    """The checksum of a line that follows one with the checksum `crc`. Raises JobChangedError when it is not the one written there.

    crc: None where that of the line before is not known, and was looked at before.
    """
    if crc is None:
        return _crc_of(line)
    own = zlib.crc32(line[9:].rstrip(b"\n"), crc)
    if _crc_of(line) != own:
        raise damaged(path)
    return own


def _crc_of(line: bytes) -> int:
    try:
        return int(line[:8], 16)
    except ValueError:
        return -1
