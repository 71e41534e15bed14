"""The output of a job: checked before anything is loaded, locked while it is made, there under its name when whole.

Beside OUTPUT lie, while the job runs, OUTPUT.journal, OUTPUT.lock and for a moment OUTPUT.part; afterwards
OUTPUT.run.json. Knows files; not rows or models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llmkit.errors import OutputError, UnavailableError, UsageError

#: Answered rows in input order become the bytes of the output.
Writer = Callable[[Iterable[dict[str, Any]]], Iterator[bytes]]


class Output:
    """One output path, held by this process. A symbolic link is followed, as other tools do.

    answer: the field that a .txt output holds, a line a row. write: makes the whole output of the answered rows, for one that
    is not rows.
    """

    def __init__(
        self, path: str, *, overwrite: bool = False, restart: bool = False, answer: str = "text", write: Writer | None = None
    ) -> None:
        self.name = path
        self.path = Path(os.path.realpath(path))
        self._check()
        self.write = write or _writer(self.path, answer)
        self._lock = acquire(self._beside("lock"))
        try:
            if restart:
                self.journal_path.unlink(missing_ok=True)
            self.overwrites = overwrite
        except BaseException:
            self.release()
            raise

    @property
    def journal_path(self) -> Path:
        return self._beside("journal")

    @property
    def record_path(self) -> Path:
        return self._beside("run.json")

    @property
    def finished(self) -> bool:
        """Whether a whole output lies under the name, and no run is under way."""
        return self.path.exists() and not self.journal_path.exists()

    def read_record(self) -> dict[str, Any] | None:
        """The record of the run that made the output, None when there is none or it can't be read."""
        try:
            content = json.loads(self.record_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    @property
    def holds_rows(self) -> bool:
        """Whether the rows can be read from it again."""
        return self.write is _jsonl

    def commit(self, rows: Iterable[dict[str, Any]], record: Callable[[str], dict[str, Any]]) -> None:
        """Writes the rows, then the record made from their SHA-256, then gives the output its name and drops the journal.

        Killed at any point, the same command does it again to the same bytes. Raises UnavailableError when the disk is full.
        """
        import hashlib

        digest = hashlib.sha256()
        part = self._beside("part")
        try:
            part.unlink(missing_ok=True)
            with part.open("xb") as file:
                for data in self.write(rows):
                    digest.update(data)
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            write_atomically(self.record_path, json.dumps(record(digest.hexdigest()), indent=2, ensure_ascii=False) + "\n")
            os.replace(part, self.path)
            sync_folder(self.path.parent)
            self.journal_path.unlink(missing_ok=True)
        except OSError as exc:
            part.unlink(missing_ok=True)
            raise UnavailableError(
                f"{self.name}: cannot be written: {exc.strerror}; what is done is kept", hint="make room, then run the same command again"
            ) from exc

    def release(self) -> None:
        self._lock.release()
        # Another process may have taken the lock since; then the file is in use and must stay.
        if os.name == "posix":
            self._beside("lock").unlink(missing_ok=True)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def _check(self) -> None:
        folder = self.path.parent
        if self.path.is_dir():
            raise OutputError(f"{self.name} is a folder; a file name is needed", hint=f"for example {os.path.join(self.name, 'out.jsonl')}")
        if not folder.is_dir():
            raise OutputError(f"{self.name}: there is no folder {folder}", hint=f"mkdir -p {folder}")
        if not os.access(folder, os.W_OK) or (self.path.exists() and not os.access(self.path, os.W_OK)):
            raise OutputError(f"{self.name}: not writable", hint="name another output")


def write_atomically(path: Path, text: str) -> None:
    """`text` under the name of `path`, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with part.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def jsonl_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON; characters as they are, unless one is half a surrogate pair."""
    line = json.dumps(row, ensure_ascii=False, default=str)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        line = json.dumps(row, default=str)
    return line + "\n"


def _text_line(row: dict[str, Any], answer: str) -> str:
    """The answer alone, on one line: a backslash and a newline inside it are written as two characters each."""
    text = row.get(answer)
    line = (text if isinstance(text, str) else "").replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n"
    return line.encode("utf-8", "replace").decode("utf-8")


def _jsonl(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for row in rows:
        yield jsonl_line(row).encode("utf-8")


def _table(rows: Iterable[dict[str, Any]], separator: str) -> Iterator[bytes]:
    """Columns are the first row's fields and "error"; what is no text or number is JSON in its cell."""
    import csv
    import io

    names: list[str] | None = None
    for row in rows:
        line = io.StringIO()
        table = csv.writer(line, delimiter=separator, lineterminator="\n")
        if names is None:
            names = [*(n for n in row if n != "error"), "error"]
            table.writerow(names)
        cells = (row.get(name, "") for name in names)
        table.writerow([json.dumps(c, ensure_ascii=False, default=str) if isinstance(c, (dict, list)) else c for c in cells])
        yield line.getvalue().encode("utf-8", "replace")


def _writer(path: Path, answer: str) -> Writer:
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson", ".jl"):
        return _jsonl
    if ending == ".txt":
        return lambda rows: (_text_line(row, answer).encode("utf-8") for row in rows)
    if ending in (".csv", ".tsv"):
        return lambda rows: _table(rows, "," if ending == ".csv" else "\t")
    raise UsageError(
        f"--output {path.name}: answers are written as .jsonl, .txt, .csv or .tsv", hint=f"for example {path.stem or 'out'}.jsonl"
    )


def acquire(path: Path) -> Any:
    """The lock file at `path`, held until `release()`. Raises OutputError when another process holds it."""
    import filelock

    if path.is_symlink():
        raise OutputError(f"{path}: a link stands where the lock goes", hint="remove it, or name another output")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
        if os.name == "posix":  # elsewhere a locked file can't be written through a second handle
            path.write_text(str(os.getpid()))
    except filelock.Timeout as exc:
        pid = path.read_text().strip() if os.name == "posix" else ""
        who = f"process {pid}" if pid else "another process"
        raise OutputError(f"{path.with_suffix('')}: {who} is writing it now", hint="wait for it, or name another output") from exc
    except OSError as exc:
        raise OutputError(f"{path}: the lock cannot be taken: {exc.strerror}", hint="name another output") from exc
    return lock


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` last."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
