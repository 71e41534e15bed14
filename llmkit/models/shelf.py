"""Folders that llmkit makes once of a model and keeps: in LLMKIT_HOME, on a shelf for each kind, named by all that decides what is in them.

A folder is written aside and gets its name when it is complete; its manifest lists each file with its SHA-256, and only what a
manifest lists is ever removed. What can't be made leaves a manifest alone, with the reason, so that it is not tried again. Knows
files and names; not what is in a folder, and it imports nothing heavy.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.errors import OutputError, UnavailableError
from llmkit.models.small_files import MAX_INDEX, read_object

MANIFEST = "llmkit-converted.json"
#: A file that was changed so short a time ago may change again within the clock's step, and its hash is not remembered.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class CacheEntry:
    """A folder on a shelf. manifest: of its files, and facts of the model."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def refused(self) -> str | None:
        """Why the model was not converted; None when it was."""
        return self.manifest.get("refused")

    @property
    def bytes(self) -> int:
        """Size on the disk of the files that the manifest lists."""
        return sum(path.stat().st_size for name in self.manifest["files"] if (path := self.folder / name).is_file())

    def damaged(self) -> str | None:
        """The first file that is gone or does not have its SHA-256; None when all are as they were written."""
        for name, expected in self.manifest["files"].items():
            try:
                if files.file_sha256(self.folder / name) != expected:
                    return str(name)
            except OSError:
                return str(name)
        return None


@dataclass(frozen=True)
class Shelf:
    """The folders of one kind. form: counts changes of what is written; folders of another form are left alone and made again."""

    kind: str
    form: int

    def find(self, name: str) -> CacheEntry | None:
        """The folder `name`, complete or refused; None where there is none of this form."""
        return self._read(self._root / name)

    def listed(self) -> list[CacheEntry]:
        """Every folder of any form, the largest first."""
        try:
            folders = [path for path in self._root.iterdir() if path.is_dir()]
        except OSError:
            return []
        entries = [entry for path in folders if (entry := self._read(path, any_form=True)) is not None]
        return sorted(entries, key=lambda entry: -entry.bytes)

    def is_own(self, entry: CacheEntry) -> bool:
        """Whether the manifest is of this form and as it was written."""
        return entry.manifest.get("form") == self.form and entry.manifest.get("sha256") == _own_sha256(entry.manifest)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """An empty folder to write into, for one process at a time; another one waits. See `commit`. Raises OSError."""
        path = self._root / name
        part = files.part_of(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(path, f"the converted form {path}", wait=True):
            shutil.rmtree(part, ignore_errors=True)  # of a process that died
            part.mkdir()
            try:
                yield part
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def commit(self, name: str, part: Path, facts: dict[str, Any]) -> CacheEntry:
        """Gives the folder `part` its name, with a manifest of its files and `facts`, in the place of an older one.

        Raises OSError, also where something of the user's lies in the older one.
        """
        path = self._root / name
        if path.exists():
            older = self._read(path, any_form=True)
            known = {MANIFEST, *(older.manifest["files"] if older is not None else ())}
            if any(child.name not in known for child in path.iterdir()):
                raise FileExistsError(errno.EEXIST, f"{path} holds files that llmkit did not write")
        hashes = {path.name: files.file_sha256(path) for path in sorted(part.iterdir())}
        manifest = {"form": self.form, **facts, "files": hashes}
        manifest["sha256"] = _own_sha256(manifest)
        (part / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", errors="surrogatepass")
        files.replace_folder(part, path)
        return CacheEntry(path, manifest)

    def clear_unfinished(self) -> int:
        """Removes what processes that died left of folders which they were writing. Returns the bytes freed. Raises OSError."""
        freed = 0
        for path in self._root.glob(".*.llmkit-part"):
            name = self._root / path.name[1:].removesuffix(".llmkit-part")
            with suppress(OutputError), files.locked(name, f"the converted form {name}"):  # one that is being written is locked
                freed += sum(file.stat().st_size for file in path.iterdir() if file.is_file())
                shutil.rmtree(path)
        return freed

    def free_bytes(self) -> int:
        """What the disk has room for."""
        return shutil.disk_usage(next(path for path in (self._root, *self._root.parents) if path.exists())).free

    @property
    def _root(self) -> Path:
        return files.home() / self.kind

    def _read(self, folder: Path, *, any_form: bool = False) -> CacheEntry | None:
        try:
            manifest = read_object(folder / MANIFEST, MAX_INDEX)
        except (OSError, UnavailableError):
            return None
        listed = manifest.get("files")
        if not isinstance(listed, dict) or not all(isinstance(v, str) and Path(n).name == n for n, v in listed.items()):
            return None
        entry = CacheEntry(folder, manifest)
        return entry if any_form or self.is_own(entry) else None


def remove(entry: CacheEntry) -> int:
    """Removes what a manifest lists, and the folder when nothing else lies in it. Returns the bytes freed."""
    freed = entry.bytes
    with files.locked(entry.folder, f"the converted form {entry.folder}", wait=True):
        files.remove_files(entry.folder, [*entry.manifest["files"], MANIFEST])
        with suppress(OSError):  # not empty: something of the user's lies there
            entry.folder.rmdir()
    return freed


def _own_sha256(manifest: dict[str, Any]) -> str:
    """Of all else that a manifest says, by which one that has changed is told from one that was written."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def remembered_sha256(paths: Sequence[Path]) -> str | None:
    """What `remember_sha256` was told of files whose names, sizes, times and places on the disk are still those; None if not."""
    seen = _seen(paths)
    try:
        known = read_object(_memory(seen), MAX_INDEX)
    except (OSError, UnavailableError):
        return None
    return str(known["sha256"]) if known.get("files") == seen and isinstance(known.get("sha256"), str) else None


def remember_sha256(paths: Sequence[Path], sha256: str) -> None:
    """Keeps the hash of files for the next time, unless they were written just now or nothing can be written."""
    seen = _seen(paths)
    if all(time.time_ns() - max(each[2], each[3]) > _SETTLED_NS for each in seen):
        place = _memory(seen)
        with suppress(OSError, OutputError):  # it is computed again the next time
            place.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(place, json.dumps({"files": seen, "sha256": sha256}))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, from memory where it is remembered. Raises OSError."""
    known = remembered_sha256([path])
    if known is None:
        known = files.file_sha256(path)
        remember_sha256([path], known)
    return known


def _seen(paths: Sequence[Path]) -> list[list[Any]]:
    stats = [os.stat(path) for path in paths]
    return [
        [os.path.realpath(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev] for path, s in zip(paths, stats, strict=True)
    ]


def _memory(seen: list[list[Any]]) -> Path:
    return files.home() / "hashes" / f"{hashlib.sha256(json.dumps([each[0] for each in seen]).encode()).hexdigest()[:40]}.json"
