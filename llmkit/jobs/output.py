"""The output of a job: checked before anything is loaded, locked while it is made, there under its name when complete.

Beside OUTPUT lie, while the job runs, OUTPUT.journal and for a moment .OUTPUT.llmkit-part; afterwards OUTPUT.run.json. The format is
chosen by the file's ending: a format is a function from answered rows to bytes, in `FORMATS` or under the entry points `llmkit.outputs`.
Knows files; not rows or models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from llmkit import files
from llmkit.errors import OutputError, UsageError
from llmkit.jobs.journal import check_journal
from llmkit.jobs.openai_batch import NAME, batch_lines
from llmkit.jobs.outcome import answer_in
from llmkit.jobs.table import Table
from llmkit.records import is_record, read_record
from llmkit.rows.base import TableForm
from llmkit.rows.values import from_json, to_json

#: Answered rows in input order, which can be walked more than once, become the bytes of the output. The name is the answer's field.
Format = Callable[[Iterable[Mapping[str, Any]], str], Iterator[bytes]]


class Writer(Protocol):
    """Makes the whole output of the answered rows. refused: by row, why its answer is not in it; known when it is made."""

    refused: Mapping[int, str]

    def __call__(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        """The output's bytes, piece by piece. rows: answered, in input order; they can be walked more than once."""
        ...


class Output:
    """One output path, held by this process. A symbolic link is followed, as other tools do.

    answer: the field that a .txt output holds, one line per row. write: makes the whole output of the answered rows, for one that
    is not rows. Raises OutputError or UsageError for a name that can't be.
    """

    def __init__(
        self, path: str, *, overwrite: bool = False, restart: bool = False, answer: str = "text", write: Writer | None = None
    ) -> None:
        self.name = path
        files.check_name(Path(path), path)
        self.path = Path(os.path.realpath(path))
        self._check()
        named = Path(path)  # a link's own name says the format, not that of the file it leads to
        self.holds_rows = write is None and _ending(named) in JSON_LINES
        self.write: Writer = write or writer_of(named, answer)
        self.overwrites = overwrite
        self._lock = files.acquire(self.path, path)
        try:
            check_journal(self.journal_path)
            if restart:
                self.journal_path.unlink(missing_ok=True)
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def journal_path(self) -> Path:
        """Where unfinished work lies."""
        return files.companion(self.path, "journal")

    @property
    def record_path(self) -> Path:
        """Where the run record lies."""
        return files.companion(self.path, "run.json")

    @property
    def finished(self) -> bool:
        """Whether an output lies under the name, and no run is under way."""
        return self.path.exists() and not self.journal_path.exists()

    def read_record(self) -> dict[str, Any] | None:
        """The record of the run that made the output, None when there is none or it can't be read."""
        return read_record(self.record_path)

    def check_complete(self, record: Mapping[str, Any]) -> None:
        """Raises OutputError when the file is not the one that the run of `record` wrote."""
        if files.file_sha256(self.path) != record["result"].get("output_sha256"):
            raise OutputError(f"{self.name}: its content has changed since the run wrote it", hint="`overwrite` makes it again")

    def commit(self, rows: Iterable[Mapping[str, Any]], record: Callable[[str], Mapping[str, Any]], table: TableForm | None = None) -> None:
        """Writes the rows, then the record made from their SHA-256, then gives the output its name and drops the journal.

        rows: walked as often as the format needs. table: how the input's is written, for one of the same format. Killed at any point,
        the same command does it again to the same bytes. Raises UnavailableError when the disk is full.
        """
        digest = hashlib.sha256()
        part = files.part_of(self.path)
        if isinstance(self.write, RowsWriter):
            self.write.like(table)
        try:
            with part.open("wb") as file:
                for data in self.write(rows):
                    digest.update(data)
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            content = json.dumps(record(digest.hexdigest()), indent=2, ensure_ascii=False, default=str) + "\n"
            files.write_whole(self.record_path, content.encode("utf-8", "backslashreplace"))
            os.replace(part, self.path)
            files.sync_folder(self.path.parent)
            self.journal_path.unlink(missing_ok=True)
        except OSError as exc:
            part.unlink(missing_ok=True)
            raise files.unwritable(self.name, exc) from exc
        except BaseException:  # Ctrl-C: `gather` has no handler of its own
            part.unlink(missing_ok=True)
            raise

    def read_rows(self, failed: Iterable[list[int]]) -> Iterator[tuple[dict[str, Any], bool]]:
        """The rows of a finished .jsonl output, and whether each failed, by the record's spans of failed rows."""
        spans = iter(failed)
        span = next(spans, None)
        with self.path.open(encoding="utf-8") as file:
            for index, line in enumerate(file):
                while span is not None and index > span[1]:
                    span = next(spans, None)
                yield from_json(line), span is not None and span[0] <= index

    def release(self) -> None:
        """Releases the lock; its file stays."""
        self._lock.release()

    def _check(self) -> None:
        folder = self.path.parent
        if self.path.is_dir():
            raise OutputError(f"{self.name} is a folder; a file name is needed", hint=f"for example {os.path.join(self.name, 'out.jsonl')}")
        if not folder.is_dir():
            raise OutputError(f"{self.name}: there is no folder {folder}", hint=f"mkdir -p {folder}")
        if self.path.exists() and not self.path.is_file():
            raise OutputError(
                f"{self.name}: not a regular file, so it is not replaced", hint="name another output, or - for standard output"
            )
        if not os.access(folder, os.W_OK) or (self.path.exists() and not os.access(self.path, os.W_OK)):
            raise OutputError(f"{self.name}: not writable", hint="name another output")
        check = files.check_own if files.lock_of(self.path).exists() else files.check_free
        check(files.part_of(self.path), "the unfinished output")
        check(files.part_of(self.record_path), "the unfinished run record")
        files.check_own(self.record_path, "the run record")
        if not is_record(self.record_path):
            raise OutputError(f"{self.record_path}: not a run record of llmkit", hint="move it away, or name another output")


def jsonl_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON; characters as they are, unless one is half a surrogate pair. Numbers keep their digits."""
    return to_json(dict(row)) + "\n"


def format_of(path: Path) -> Format:
    """The format that a name's ending stands for. Raises UsageError."""
    ending = _ending(path)
    if ending in FORMATS:
        return FORMATS[ending]
    from importlib.metadata import entry_points

    for point in entry_points(group="llmkit.outputs"):
        if "." + point.name == ending:
            loaded: Format = point.load()
            return loaded
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.stem or "out"
    raise UsageError(f"output {path.name}: rows are written as {', '.join(_SHOWN[:-1])} or {_SHOWN[-1]}", hint=f"for example {stem}.jsonl")


class RowsWriter:
    """A format of rows: each answer is in it. format: called with the rows and with `more`."""

    def __init__(self, format: Callable[..., Iterator[bytes]], *more: str) -> None:
        self._format, self._more = format, more
        self.refused: Mapping[int, str] = {}

    def __call__(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        """As `Writer.__call__`; what a format has no place for is left out, so no row is refused."""
        return self._format(rows, *self._more)

    def like(self, form: TableForm | None) -> None:
        """Writes a table as the input's is written, where both are of one format."""
        if isinstance(self._format, Table) and form is not None and form.format == self._format.form.format:
            self._format = Table(form)


def writer_of(path: Path, answer: str, format: str | None = None, model: str = "") -> Writer:
    """What makes the bytes of an output of rows: by its format's name, or by the ending of `path`. Raises UsageError.

    format: a key of `FORMAT_NAMES`; None or "auto" is the ending's. model: what lines of an OpenAI batch say of who answered.
    """
    if format in (None, "auto"):
        return RowsWriter(format_of(path), answer)
    return RowsWriter(batch_lines, answer, model) if format == NAME else RowsWriter(FORMATS[FORMAT_NAMES[format]], answer)


def stream_writer(format: str, answer: str, model: str = "") -> Writer:
    """What makes the bytes of rows that go out one at a time. Raises UsageError for a table, whose columns all rows decide."""
    if format not in STREAMED:
        raise UsageError(f"{format} needs all rows before its first line", hint=f"name a file: `output` out.{format}")
    return writer_of(Path("-"), answer, format, model)


def _jsonl(rows: Iterable[Mapping[str, Any]], _: str) -> Iterator[bytes]:
    for row in rows:
        yield jsonl_line(row).encode("utf-8")


def _text(rows: Iterable[Mapping[str, Any]], answer: str) -> Iterator[bytes]:
    """The answer alone, on one line: a line end inside it is written as two characters, `\\n`; the rest as it is."""
    for row in rows:
        text = answer_in(row).get(answer)
        line = (text if isinstance(text, str) else "").replace("\n", "\\n").replace("\r", "\\r") + "\n"
        yield line.encode("utf-8", "replace")


def _ending(path: Path) -> str:
    return path.suffix.lower()


#: Endings of JSON lines: each row whole, so a program can read it back.
JSON_LINES = (".jsonl", ".ndjson", ".jl")
#: A format by its ending. A new one is a function and one line here.
FORMATS: dict[str, Format] = {
    **dict.fromkeys(JSON_LINES, _jsonl),
    ".txt": _text,
    ".csv": Table(TableForm("csv", ",")),
    ".tsv": Table(TableForm("tsv", "\t")),
}
#: Endings that a message names.
_SHOWN = tuple(ending for ending in FORMATS if ending not in JSON_LINES[1:])
#: A format by its name: the ending that stands for it. Lines of an OpenAI batch have no ending of their own.
FORMAT_NAMES: dict[str | None, str] = {"text" if ending == ".txt" else ending[1:]: ending for ending in _SHOWN}
#: Formats whose lines are known row by row.
STREAMED = ("text", "jsonl", NAME)
