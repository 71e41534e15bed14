"""Files that are replaced only by complete files, and locks: how llmkit writes, in one place.

Beside an output NAME lie, while a run works, companions of its own: a lock (`.NAME.llmkit-lock`, which stays), a journal and a
part (`.NAME.llmkit-part`; NAME.part may be a user's). A companion is opened only when it is our own regular file: a link, a FIFO
or a user's file at its name is refused.
Knows names and bytes; not rows, models or what a file means.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmkit.errors import OutputError, UnavailableError

#: Bytes that a file name may have on the file systems that people use.
MAX_NAME = 255
_LONGEST_PID = 20
#: Bytes of a record or a report of ours; one of a million rows takes a few dozen megabytes.
MOST_RECORD = 1 << 28


def home() -> Path:
    """The folder for what llmkit makes once and keeps: LLMKIT_HOME, or `llmkit` in the user's folder for caches."""
    if named := os.environ.get("LLMKIT_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llmkit"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "llmkit" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmkit"


def companion(path: Path, ending: str, *, hidden: bool = False) -> Path:
    """The name beside `path` that ends with `.ending`; one that would be too long is cut and made unique by a hash.

    hidden: with a dot in front, for what stays there.
    """
    name = f"{'.' if hidden else ''}{path.name}.{ending}"
    if len(os.fsencode(name)) > MAX_NAME:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
        room = MAX_NAME - len(f".~{digest}.{ending}")
        start = os.fsencode(path.name)[:room].decode("utf-8", "ignore")
        name = f"{'.' if hidden else ''}{start}~{digest}.{ending}"
    return path.with_name(name)


def part_of(path: Path) -> Path:
    """Where the file at `path` lies until it is complete: a name that no user's file has."""
    return companion(path, "llmkit-part", hidden=True)


def lock_of(path: Path) -> Path:
    """The lock of the output at `path`. It stays behind each run, so where there is none, llmkit has not yet written this output."""
    return companion(path, "llmkit-lock", hidden=True)


def check_name(path: Path, shown: str) -> None:
    """Raises OutputError for a name that no file can have: empty, or longer than 255 bytes."""
    if not shown.strip():
        raise OutputError("the output's name is empty", hint="name a file")
    if len(os.fsencode(path.name)) > MAX_NAME:
        size = len(os.fsencode(path.name))
        raise OutputError(f"{path.name[:40]}...: the name has {size} bytes, a file's name at most {MAX_NAME}", hint="a shorter name")


def check_own(path: Path, what: str) -> None:
    """Refuses what can't be a file of llmkit's: a link, a folder, a FIFO, a device, a file with another name beside.

    Nothing at `path` is fine. what: how messages call it, as 'the journal'. Raises OutputError.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise OutputError(f"{path}: {what} cannot be checked: {exc.strerror}", hint="name another output") from exc
    kinds = (
        (stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    )  # fmt: skip
    kind = next(
        (name for test, name in kinds if test(status.st_mode)), "a file with a second name (hard link)" if status.st_nlink > 1 else None
    )
    if kind is not None:
        raise OutputError(f"{path}: {kind} is in the place of {what}", hint="move it away, or name another output")


def check_free(path: Path, what: str) -> None:
    """Refuses any file at `path`, where none of llmkit's can be yet. what: as in `check_own`. Raises OutputError."""
    check_own(path, what)
    if path.exists():
        raise OutputError(f"{path}: a file is in the place of {what}", hint="move it away, or name another output")


def open_own(path: Path, what: str) -> int:
    """A file descriptor, read and write, of our own regular file at `path`, made if it is not there. Raises OutputError."""
    check_own(path, what)
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        return os.open(path, flags, 0o666)
    except OSError as exc:
        raise OutputError(f"{path}: {what} cannot be opened: {exc.strerror}", hint="name another output") from exc


@contextmanager
def locked(path: Path, shown: str, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of the output at `path` inside the block; `shown` is how the user named it. See `acquire`."""
    lock = acquire(path, shown, wait=wait)
    try:
        yield
    finally:
        lock.release()


def acquire(path: Path, shown: str, *, wait: bool = False) -> Any:
    """The lock of the output at `path`, held until its `release()`. wait: for a process that holds it, however long.

    The lock's file stays: once it is removed, two processes can hold two files of one name (tox-dev/filelock #574).
    Raises OutputError when another process holds it, or when something else than a lock of llmkit has its name.
    """
    import filelock

    place = lock_of(path)
    check_own(place, "the lock")
    with suppress(FileNotFoundError):
        content = place.read_bytes()[: _LONGEST_PID + 1] if os.name == "posix" else b""
        if len(content) > _LONGEST_PID or (not content.decode("latin-1").strip().isdigit() and content.strip()):
            raise OutputError(f"{place}: not a lock of llmkit", hint="move it away, or name another output")
    lock = filelock.FileLock(place, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except filelock.Timeout as exc:
        if not place.exists():  # a file system that makes no files, as /proc
            raise OutputError(f"{shown}: no file can be made there", hint="name another output") from exc
        pid = place.read_text().strip() if os.name == "posix" else ""
        who = f"process {pid}" if pid else "another process"
        raise OutputError(f"{shown}: {who} is writing it now", hint="wait for it, or name another output") from exc
    except OSError as exc:
        raise OutputError(f"{shown}: its lock cannot be taken: {exc.strerror}", hint="name another output") from exc
    if os.name == "posix":  # elsewhere a locked file can't be written through a second handle
        with suppress(OSError):  # a full disk: the lock holds without the number
            place.write_text(str(os.getpid()))
    return lock


def write_whole(path: Path, data: str | bytes | Iterable[bytes]) -> None:
    """`data` under the name of `path`, complete and synced, or not at all. Raises OSError, with nothing left beside."""
    part = part_of(path)
    check_own(part, "the unfinished file")
    try:
        with part.open("wb") as file:
            for piece in [data] if isinstance(data, (str, bytes)) else data:
                file.write(piece.encode("utf-8") if isinstance(piece, str) else piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_folder(new: Path, path: Path) -> Path | None:
    """Gives the folder `new` the name of `path`, in the place of one that is there. Returns the old one where it can't be removed.

    A folder that is not empty can't be replaced in one step: the old one is renamed aside first and removed last, so at any
    point of failure one of both is complete, and when the second rename fails the old one gets its name back. Raises OSError.
    """
    sync_tree(new)
    aside = companion(path, "llmkit-old", hidden=True)
    if path.exists():
        if aside.exists():
            shutil.rmtree(aside)
        os.replace(path, aside)
    try:
        os.replace(new, path)
    except BaseException:
        if aside.exists():
            os.replace(aside, path)
        raise
    sync_folder(path.parent)
    if aside.exists():
        try:
            shutil.rmtree(aside)
        except OSError:
            return aside
    return None


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Removes the files `names` (relative, as a manifest lists them) of `folder`, and folders that are empty then; nothing else.

    A name that leads out of the folder, or a link, is left alone. Raises OSError.
    """
    root = folder.resolve()
    parents: set[Path] = set()
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.parent.resolve().is_relative_to(root) or not path.is_file():
            continue
        path.unlink()
        parents |= {p for p in (path.parent, *path.parent.parents) if p != folder and p.is_relative_to(folder)}
    for parent in sorted(parents, key=lambda p: -len(p.parts)):
        with suppress(OSError):  # not empty: something of the user's lies there
            parent.rmdir()


def sync_tree(folder: Path) -> None:
    """Makes the content of every file below `folder` last. Raises OSError."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` last, where the file system can. Raises OSError."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that can't sync folders
            raise
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_at_most(path: Path, limit: int = MOST_RECORD) -> bytes:
    """The bytes of a file of at most `limit`; of a device or a pipe, too, whose size is not known. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(data) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit:,} bytes")
    return data


def unwritable(shown: str, exc: OSError, *, resumes: bool = True) -> UnavailableError:
    """What to say when a disk is full or gone. resumes: the same command goes on from what is finished."""
    kept = "; finished work is kept" if resumes else ""
    return UnavailableError(f"{shown}: cannot be written: {exc.strerror}{kept}", hint="make room, then run the same command again")
