"""Answers and scores that are kept from run to run: a row that was answered before under the same conditions is not answered again.

An entry is a file whose name is the hash of all that could change the answer. It is written aside and renamed, so two processes can
share a folder, and it holds a hash of itself, so a damaged one counts as missing and is written anew. The folder is bounded: what was
used longest ago goes first. Only a folder that llmkit made is written to, and only entries are ever removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmkit.engines.base import Check, never_stop
from llmkit.errors import OutputError
from llmkit.jobs.batching import Work
from llmkit.jobs.executor import Task
from llmkit.jobs.outcome import Answer
from llmkit.jobs.reporter import Reporter
from llmkit.records import versions
from llmkit.rows import Row
from llmkit.rows.values import from_json, to_json

#: Bytes of all entries; beyond, the oldest are removed.
MOST_BYTES = 1 << 30
#: The share of them that stays when it is trimmed, so that not every run has to.
_KEPT = 0.9
#: Bytes of one entry. A larger answer is not kept.
_MOST_ENTRY = 1 << 24
_TAG = "CACHEDIR.TAG"
#: The signature of https://bford.info/cachedir, by which backup programs know a cache.
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of answers and scores made by llmkit; it can be removed at any time.\n"
_UNFINISHED = ".llmkit-"
_HEX = frozenset("0123456789abcdef")
#: Seconds after which an unfinished file belongs to a process that is gone.
_ABANDONED = 86_400
#: Options that decide which rows are read, or how: what was read is in the key.
_ABOUT_READING = ("limit", "input_format", "encoding", "rows_sha256")


class Cache:
    """A folder of answers by key. report: told once when entries can't be written."""

    def __init__(self, folder: str, report: Reporter, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most_bytes, self._report = Path(folder), most_bytes, report
        self._written = 0
        self._writable = True
        check(folder)

    def get(self, key: str) -> Answer | None:
        """The answer under `key`; None where there is none, or none that is whole."""
        path = self._path(key)
        try:
            if path.stat().st_size > _MOST_ENTRY:
                return None
            answer = _parse(path.read_text(encoding="utf-8"), key)
        except (OSError, ValueError, RecursionError):
            return None
        with suppress(OSError):  # so that it counts as used lately
            os.utime(path)
        return answer

    def put(self, key: str, answer: Answer) -> None:
        """Keeps an answer. A folder that can't be written is said once: the run is worth more than its cache."""
        if not self._writable:
            return
        text = _text(key, answer)
        if len(text) > _MOST_ENTRY:
            return
        try:
            _write(self._path(key), text)
            self._written += 1
        except OSError as exc:
            self._writable = False
            self._report.warn(f"`cache` {self.folder}: cannot be written ({exc.strerror}); answers are not kept")

    def trim(self) -> None:
        """Removes what was used longest ago until the entries fit, and what processes that are gone have left unfinished."""
        if not self._written:
            return
        with suppress(OSError):  # a folder that someone removes at the same time
            self._trim()

    def _trim(self) -> None:
        entries = []
        for path, status in _files(self.folder):
            if path.name.startswith(_UNFINISHED):
                if time.time() - status.st_mtime > _ABANDONED:
                    path.unlink(missing_ok=True)
            elif len(path.stem) == 62 and path.suffix == ".json" and _HEX.issuperset(path.stem):
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda e: e[0]) if total > self.most_bytes else ():
            if total <= _KEPT * self.most_bytes:
                break
            with suppress(OSError):
                path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.json"


class CachedTask:
    """A task that answers only what the cache does not hold. known: rows that it held.

    identity: of the run, see `llmkit.records.identity`; all of it counts but which rows were read. by_place: the answer also depends
    on the row's place in the input, as that of a row that is sampled.
    """

    def __init__(self, task: Task, cache: Cache, identity: Mapping[str, Any], *, by_place: bool = False) -> None:
        self.task, self.cache, self.by_place = task, cache, by_place
        self.width = task.width
        self.known = 0
        conditions = {name: value for name, value in identity.items() if name not in _ABOUT_READING}
        self._conditions = json.dumps([conditions, versions()], sort_keys=True, default=str)

    def prepare(self, row: Row) -> Work:
        """Rows that are known are prepared as well, so that batches are planned from the input alone."""
        work = self.task.prepare(row)
        if work.error is not None or (answer := self.cache.get(self._key(row))) is None:
            return work
        self.known += 1
        return replace(work, payload=None, known=answer)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """Keeps the answers that come without an error."""
        answers = self.task.answer(batch, check)
        self.keep(batch, answers)
        return answers

    def keep(self, batch: Sequence[Work], answers: Sequence[Answer]) -> None:
        """Keeps the answers that there are."""
        for work, answer in zip(batch, answers, strict=True):
            if answer.error is None:
                self.cache.put(self._key(work.row), answer)

    def _key(self, row: Row) -> str:
        place = f"\n{row.index}" if self.by_place else ""
        return hashlib.sha256(f"{self._conditions}\n{row.digest.hex()}{place}".encode("utf-8", "backslashreplace")).hexdigest()


def check(folder: str) -> None:
    """Makes the folder, or refuses one that is not a cache of llmkit's. Raises OutputError."""
    path = Path(folder)
    try:
        path.mkdir(exist_ok=True)
        if (path / _TAG).exists():
            if not (path / _TAG).read_text(encoding="utf-8", errors="replace").startswith(_SIGNATURE):
                raise OutputError(f"`cache` {folder}: another program's cache", hint="name a separate folder")
            return
        if other := next((name for name in os.listdir(path) if not name.startswith(_UNFINISHED)), None):
            raise OutputError(f"`cache` {folder}: holds '{other}', and is not a cache of llmkit", hint="name a new or an empty folder")
        _write(path / _TAG, _SIGNATURE)
    except FileNotFoundError as exc:
        raise OutputError(f"`cache` {folder}: there is no folder {path.absolute().parent}", hint=f"mkdir -p {path.parent}") from exc
    except OSError as exc:
        raise OutputError(f"`cache` {folder}: cannot be used: {exc.strerror}", hint="name another folder") from exc


def _text(key: str, answer: Answer) -> str:
    content = to_json([dict(answer.fields), answer.prompt_tokens, answer.completion_tokens, answer.scored_tokens])
    return json.dumps({"key": key, "sha256": _digest(content), "answer": content}) + "\n"


def _parse(text: str, key: str) -> Answer:
    """Raises ValueError for what `_text` did not write under this key."""
    entry = json.loads(text)
    if not isinstance(entry, dict) or entry.get("key") != key or entry.get("sha256") != _digest(str(entry.get("answer"))):
        raise ValueError("damaged")
    fields, *counts = from_json(entry["answer"])
    if not isinstance(fields, dict) or [type(count) for count in counts] != [int] * 3:
        raise ValueError("damaged")
    return Answer(fields, None, *counts)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


def _write(path: Path, text: str) -> None:
    """The text under its name, whole or not at all. It is not synced: what a crash of the machine loses is made again."""
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f"{_UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files of the folders that entries lie in."""
    for inner in folder.iterdir():
        if len(inner.name) != 2 or not _HEX.issuperset(inner.name) or inner.is_symlink() or not inner.is_dir():
            continue
        for entry in os.scandir(inner):
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)
