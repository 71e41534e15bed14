"""Models that were converted for CTranslate2, on disk: one folder each, named by all that decides what it answers.

A folder is written aside and gets its name when it is complete; its manifest lists each file with its SHA-256, and only what a
manifest lists is ever removed. A model that can't be converted leaves a manifest alone, with the reason, so that it is not tried
again. Knows files and names; not the library, and it imports nothing heavy.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.errors import OutputError, UnavailableError
from llmkit.models.adapters import Adapter
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.small_files import MAX_INDEX, read_object
from llmkit.models.view import TEMPLATE, VOCABULARIES

MANIFEST = "llmkit-converted.json"
#: Counts changes of what convert.py writes: forms of another number are left alone and made again.
FORM = 1
#: What beside the weights decides ids, answers and limits.
_SMALL = ("config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json", "README.md", TEMPLATE, *VOCABULARIES)
_TEMPLATES = "additional_chat_templates"
#: A file that was changed so short a time ago may change again within the clock's step, and its hash is not remembered.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache. manifest: of its files, and facts of the model."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def refused(self) -> str | None:
        """Why the model was not converted; None when it was."""
        return self.manifest.get("refused")

    @property
    def bytes(self) -> int:
        """Bytes on the disk of the files that the manifest lists; 0 for a model that was refused."""
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


def key(checkpoint: Checkpoint, adapter: Adapter | None) -> str:
    """The name of a model's folder: a hash of weights, adapter, tokenizer, configurations, and of what converts them.

    The precision to compute in is no part of it: one form serves all.
    """
    digest = hashlib.sha256()
    parts = [str(FORM), *(f"{name} {version(name)}" for name in ("ctranslate2", "transformers", "tokenizers")), weights_sha256(checkpoint)]
    if adapter is not None:
        parts.append(adapter.sha256)
    for folder in (checkpoint.folder, *([adapter.folder] if adapter is not None else [])):
        more = sorted((folder / _TEMPLATES).glob("*.jinja"))
        parts += [f"{path.name} {files.file_sha256(path)}" for path in (*(folder / name for name in _SMALL), *more) if path.is_file()]
        parts.append("")
    digest.update("\n".join(parts).encode())
    return digest.hexdigest()[:40]


def find(name: str) -> CacheEntry | None:
    """The folder of the key `name`, complete or refused; None where there is none that this release wrote."""
    return _read(_root() / name)


def listed() -> list[CacheEntry]:
    """Every converted model of any release, the largest first."""
    try:
        folders = [path for path in _root().iterdir() if path.is_dir()]
    except OSError:
        return []
    found = [entry for path in folders if (entry := _read(path, any_form=True)) is not None]
    return sorted(found, key=lambda entry: -entry.bytes)


@contextmanager
def writing(name: str) -> Iterator[Path]:
    """An empty folder to write a model into, for one process at a time; another one waits. See `commit`. Raises OSError."""
    path = _root() / name
    part = files.companion(path, "llmkit-part", hidden=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path, f"the converted form {path}", wait=True):
        shutil.rmtree(part, ignore_errors=True)  # of a process that died
        part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def commit(name: str, part: Path, facts: dict[str, Any]) -> CacheEntry:
    """Gives the folder `part` its name, with a manifest of its files and `facts`, in the place of an older one.

    Raises OSError, also where something of the user's lies in the older one.
    """
    path = _root() / name
    if path.exists():
        older = _read(path, any_form=True)
        known = {MANIFEST, *(older.manifest["files"] if older is not None else ())}
        if any(found.name not in known for found in path.iterdir()):
            raise FileExistsError(errno.EEXIST, f"{path} holds files that llmkit did not write")
    hashes = {path.name: files.file_sha256(path) for path in sorted(part.iterdir())}
    manifest = {"form": FORM, **facts, "files": hashes}
    (part / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", errors="surrogatepass")
    files.replace_folder(part, path)
    return CacheEntry(path, manifest)


def remove(entry: CacheEntry) -> int:
    """Removes what a manifest lists, and the folder when nothing else lies in it. Returns the bytes freed."""
    freed = entry.bytes
    with files.locked(entry.folder, f"the converted form {entry.folder}", wait=True):
        files.remove_files(entry.folder, [*entry.manifest["files"], MANIFEST])
        with suppress(OSError):  # not empty: something of the user's lies there
            entry.folder.rmdir()
    return freed


def free_bytes() -> int:
    """Bytes that the disk of the cache has room for."""
    root = _root()
    return shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free


def weights_sha256(checkpoint: Checkpoint) -> str:
    """`checkpoint.sha256`, from memory where the files' names, sizes, times and places on the disk are those of the last time."""
    stats = [os.stat(path) for path in checkpoint.files]
    seen = [
        [os.path.realpath(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev]
        for path, s in zip(checkpoint.files, stats, strict=True)
    ]
    place = files.home() / "hashes" / f"{hashlib.sha256(json.dumps([each[0] for each in seen]).encode()).hexdigest()[:40]}.json"
    try:
        known = read_object(place, MAX_INDEX)
        if known.get("files") == seen and isinstance(known.get("sha256"), str):
            return str(known["sha256"])
    except (OSError, UnavailableError):
        pass  # none is remembered
    found = checkpoint.sha256
    if all(time.time_ns() - max(s.st_mtime_ns, s.st_ctime_ns) > _SETTLED_NS for s in stats):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(place, json.dumps({"files": seen, "sha256": found}))
        except (OSError, OutputError):
            pass  # it is computed again the next time
    return found


def _root() -> Path:
    return files.home() / "ctranslate2"


def _read(folder: Path, *, any_form: bool = False) -> CacheEntry | None:
    try:
        manifest = read_object(folder / MANIFEST, MAX_INDEX)
    except (OSError, UnavailableError):
        return None
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not all(isinstance(v, str) and Path(n).name == n for n, v in listed.items()):
        return None
    return CacheEntry(folder, manifest) if any_form or manifest.get("form") == FORM else None
