"""A long run goes on behind its journal's last mark: without a look at what is done, to the same bytes, and only on the same input."""

from __future__ import annotations

import json
import os
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import InputError, JobChangedError, TimeUpError
from llmkit.jobs import marks
from llmkit.jobs.batching import WINDOW_ROWS, Work
from llmkit.jobs.journal import Journal
from llmkit.jobs.outcome import Answer, Tally
from llmkit.jobs.output import Output
from llmkit.jobs.reporter import Progress, Silent, Uncounted
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
from llmkit.jobs.shards import Shard, gather
from llmkit.rows import Row, open_rows

COUNT = 5 * WINDOW_ROWS + 100


@pytest.fixture(autouse=True)
def every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "EVERY", 1)


class Shouting:
    """Rows around the first border of windows can't be answered."""

    width = 1

    def prepare(self, row: Row) -> Work:
        error = row.error or (InputError("a bad row") if WINDOW_ROWS - 3 <= row.index < WINDOW_ROWS + 3 else None)
        return Work(row, str(row.fields.get("text", "")), 1, 1, error)

    def answer(self, batch: Sequence[Work], *_: Any) -> list[Answer]:
        return [Answer({"answer": work.payload.upper()}, None, 1, 1) for work in batch]


class Skipping(Uncounted):
    def __init__(self, skipped: list[int]) -> None:
        self.skipped = skipped

    def skip(self, rows: int) -> None:
        self.skipped.append(rows)


class Counting(Silent):
    """Keeps how many rows were skipped at a time."""

    def __init__(self) -> None:
        self.skipped: list[int] = []

    @contextmanager
    def progress(self, what: str, source: str = "") -> Iterator[Progress]:
        yield Skipping(self.skipped)


def answer(rows: Path, out: Path, report: Silent | None = None, **settings: Any) -> Tally:
    shard = settings.get("shard")
    run = RunName("generate", identity={} if shard is None else {"shard": str(shard)})
    with Output(shard.path(str(out)) if shard else str(out), write=None if shard is None else shard_writer()) as output:
        return file_job(open_rows(str(rows)), Shouting(), JobSettings(**settings), output, report or Silent(), run)


def shard_writer() -> Any:
    from llmkit.jobs.output import RowsWriter
    from llmkit.jobs.shards import shard_lines

    return RowsWriter(shard_lines)


def ended(rows: Path, out: Path, **settings: Any) -> None:
    """A run that stops when four windows and a half are done."""
    with pytest.raises(TimeUpError):
        answer(rows, out, max_tokens=2 * (4 * WINDOW_ROWS + 500) // (settings["shard"].of if "shard" in settings else 1), **settings)


def lines(end: str, *, first: str = "", last: str | None = None, blank: int = 0) -> bytes:
    rows = [json.dumps({"text": f"row {i}"}) + (2 * end if blank and i % blank == 0 else end) for i in range(COUNT)]
    return (first + "".join(rows).removesuffix(end) + (end if last is None else last)).encode()


WRITTEN: dict[str, Callable[[], bytes]] = {
    "line feeds": lambda: lines("\n"),
    "carriage returns and line feeds": lambda: lines("\r\n"),
    "blank lines": lambda: lines("\n", blank=7),
    "a byte-order mark": lambda: lines("\n", first="\ufeff"),
    "no last line end": lambda: lines("\n", last=""),
    "a broken row": lambda: lines("\n").replace(b'{"text": "row 40"}', b'{"text": '),
    "carriage returns": lambda: lines("\r"),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_run_goes_on_behind_the_last_mark_to_the_same_bytes_and_counts(tmp_path: Path, written: str) -> None:
    rows, one, out = tmp_path / "in.jsonl", tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(WRITTEN[written]())
    whole = answer(rows, one)
    ended(rows, out)
    report = Counting()
    tally = answer(rows, out, report)
    assert out.read_bytes() == one.read_bytes()
    before, now = (json.loads(path.with_name(path.name + ".run.json").read_text()) for path in (one, out))
    measured = ("seconds", "tokens_per_second", "peak_memory_bytes", "output")
    assert now["identity"] == before["identity"]
    assert {n: v for n, v in now["result"].items() if n not in measured} == {n: v for n, v in before["result"].items() if n not in measured}
    assert (tally.rows, tally.failed_rows) == (whole.rows, whole.failed_rows)
    assert tally.resumed >= 4 * WINDOW_ROWS
    in_one_step = report.skipped[0] >= 3 * WINDOW_ROWS
    assert in_one_step is (written != "carriage returns")  # whose lines are only found by reading them


def test_a_run_that_is_ended_again_and_again_counts_everything_once(tmp_path: Path) -> None:
    rows, one, out = tmp_path / "in.jsonl", tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    whole = answer(rows, one)
    for share in range(1, 6):
        with pytest.raises(TimeUpError):
            answer(rows, out, max_tokens=share * 2 * WINDOW_ROWS - 300)
    tally = answer(rows, out)
    assert out.read_bytes() == one.read_bytes()
    assert (tally.rows, tally.prompt_tokens, tally.failed_rows) == (whole.rows, whole.prompt_tokens, whole.failed_rows)


@pytest.mark.parametrize("place", [10, 4 * WINDOW_ROWS + 100], ids=["before the mark", "behind it"])
def test_a_row_that_has_changed_is_named(tmp_path: Path, place: int) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    ended(rows, out)
    rows.write_bytes(rows.read_bytes().replace(f'"row {place}"'.encode(), f'"ROW {place}"'.encode()))
    with pytest.raises(JobChangedError, match=f"row {place + 1} has changed"):
        answer(rows, out)


def test_the_same_bytes_read_as_other_rows_are_another_input(tmp_path: Path) -> None:
    rows, text, out = tmp_path / "in.jsonl", tmp_path / "in.txt", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    text.write_bytes(rows.read_bytes())
    ended(rows, out)
    with pytest.raises(JobChangedError, match=r"row \d+ has changed"):
        answer(text, out)


def test_an_input_that_has_become_shorter_is_refused(tmp_path: Path) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    ended(rows, out)
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[: 2 * WINDOW_ROWS]))
    with pytest.raises(JobChangedError, match="fewer rows"):
        answer(rows, out)


def test_shards_go_on_behind_their_marks(tmp_path: Path) -> None:
    rows, one, out = tmp_path / "in.jsonl", tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    answer(rows, one)
    for shard in (Shard(1, 2), Shard(2, 2)):
        ended(rows, out, shard=shard)
        report = Counting()
        answer(rows, out, report, shard=shard)
        assert report.skipped[0] >= WINDOW_ROWS
    gather(str(out))
    assert out.read_bytes() == one.read_bytes()


def test_a_table_is_read_row_by_row_as_before(tmp_path: Path) -> None:
    rows, one, out = tmp_path / "in.csv", tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    rows.write_text("text\n" + "".join(f'"row\n{i}"\n' for i in range(COUNT)))
    answer(rows, one)
    ended(rows, out)
    report = Counting()
    answer(rows, out, report)
    assert out.read_bytes() == one.read_bytes()
    assert max(report.skipped) == WINDOW_ROWS


def test_failed_rows_run_again_read_everything(tmp_path: Path) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    answer(rows, out)
    before = out.read_bytes()
    tally = answer(rows, out, retry_failed=True)
    assert (tally.rows, tally.failed) == (COUNT, 6)
    assert out.read_bytes() == before


WRONG: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a count that is text": lambda mark: mark | {"mark": "4"},
    "a count below zero": lambda mark: mark | {"start": -1},
    "a place of one part": lambda mark: mark | {"place": [1]},
    "a place of texts": lambda mark: mark | {"place": ["lines", "1", "1", "1", "x"]},
    "no hash": lambda mark: mark | {"rows_sha256": None},
    "no counts": lambda mark: {name: value for name, value in mark.items() if name != "tally"},
    "counts of texts": lambda mark: mark | {"tally": mark["tally"] | {"rows": "1"}},
    "seconds that are none": lambda mark: mark | {"seconds": []},
    "spans that are none": lambda mark: mark | {"tally": mark["tally"] | {"failed_rows": [5]}},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mark_that_no_run_writes_is_refused_with_the_name_of_the_journal(tmp_path: Path, wrong: str) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(lines("\n"))
    ended(rows, out)
    journal = out.with_name("out.jsonl.journal")
    chained, crc = [], 0
    for line in journal.read_bytes().splitlines():
        content = line[9:]
        if content.startswith(b'{"mark"'):
            content = json.dumps(WRONG[wrong](json.loads(content))).encode()
        crc = zlib.crc32(content, crc)
        chained.append(b"%08x %s\n" % (crc, content))
    journal.write_bytes(b"".join(chained))
    with pytest.raises(JobChangedError, match=r"out\.jsonl\.journal: the journal was damaged"):
        answer(rows, out)


@pytest.mark.parametrize("begun", [False, True], ids=["as its header", "behind its header"])
def test_a_journal_with_a_terabyte_of_nothing_is_refused_before_memory_is_taken(tmp_path: Path, begun: bool) -> None:
    path = tmp_path / "out.jsonl.journal"
    with closing(Journal(path, {})):
        pass
    if not begun:
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    with pytest.raises(JobChangedError, match=r"out\.jsonl\.journal: the journal was damaged"):
        Journal(path, {})
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


def test_zeros_that_a_disk_left_of_a_line_are_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.journal"
    with closing(Journal(path, {})) as journal:
        journal.append({"window": 0, "rows": [], "seconds": 0.0})
    whole = path.read_bytes()
    path.write_bytes(whole + b"12345678 {" + b"\0" * 3_000_000)
    with closing(Journal(path, {})) as journal:
        assert journal.resumed
    assert path.read_bytes() == whole
