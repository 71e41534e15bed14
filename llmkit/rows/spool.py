"""A list on disk, for what must be complete before it is used: memory does not grow with it."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar, overload

from llmkit.errors import UnavailableError

T = TypeVar("T")


class Spool(Sequence[T], Generic[T]):
    """Items as bytes, one after another, in a temporary file without a name: it is gone when the process is, however it ends.

    Memory holds eight bytes per item. pack and unpack: an item to bytes, and back.
    """

    def __init__(self, pack: Callable[[T], bytes], unpack: Callable[[bytes], T]) -> None:
        self._pack, self._unpack = pack, unpack
        self._ends = array("Q", [0])
        self._reading = False
        self._file = tempfile.TemporaryFile(prefix="llmkit-")  # noqa: SIM115  (as long as the list)

    def append(self, item: T) -> None:
        """Raises UnavailableError when the disk is full."""
        data = self._pack(item)
        with _full_disk():
            if self._reading:
                self._file.seek(self._ends[-1])
                self._reading = False
            self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def close(self) -> None:
        """Gives the disk back; nothing can be read any more."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if not self._reading:
            with _full_disk():
                self._file.flush()
            self._reading = True
        self._file.seek(self._ends[index])
        return self._unpack(self._file.read(self._ends[index + 1] - self._ends[index]))


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise UnavailableError(
            f"{tempfile.gettempdir()}: cannot be written: {exc.strerror}", hint="make room there, or name another folder with TMPDIR"
        ) from exc
