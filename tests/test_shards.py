"""Shards of one plan, each a run of its own, join to the bytes that one process writes."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from conftest import Run, finish, kill, start, until, write_rows
from servers import FakeServer

from llmkit.errors import UsageError
from llmkit.jobs.batching import WINDOW_ROWS, Work, batches
from llmkit.jobs.shards import Shard, parse_shard
from llmkit.rows import Row

ROWS = 70


@pytest.fixture
def job(tmp_path: Path, server: FakeServer) -> list[object]:
    """Rows of which the fifth can't be read and the ninth has no prompt."""
    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "prompt": f"row {i}" if i != 8 else None} for i in range(ROWS)])
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([*lines[:4], "{broken", *lines[5:]]) + "\n")
    return ["generate", "-i", rows, "-m", "openai:tiny", "--api-base", server.base]


def without_measurements(record: Path) -> dict[str, object]:
    content = json.loads(record.read_text())
    measured = ("seconds", "tokens_per_second", "peak_memory_bytes", "output")
    content["options"] = {name: value for name, value in content["options"].items() if name != "output"}
    content["result"] = {name: value for name, value in content["result"].items() if name not in measured}
    return dict(content)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "txt"])
def test_gathered_shards_are_the_bytes_and_the_record_of_one_process(
    run: Run, tmp_path: Path, server: FakeServer, job: list[object], ending: str
) -> None:
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    assert run(*job, "-o", whole).code == 3
    asked = len(server.bodies)
    for number, code in ((2, 3), (3, 3), (1, 0)):  # the two rows that fail are in two shards
        assert run(*job, "-o", out, "--shard", f"{number}/3").code == code
    assert len(server.bodies) == 2 * asked
    assert not out.exists()
    ran = run("gather", out)
    assert ran.code == 3  # two rows have failed
    assert "70 rows of 3 shards" in ran.err
    assert out.read_bytes() == whole.read_bytes()
    assert without_measurements(tmp_path / f"out.{ending}.run.json") == without_measurements(tmp_path / f"whole.{ending}.run.json")
    assert "already complete" in run(*job, "-o", out).err


def test_shards_of_a_model_here_are_even_and_join_to_the_same_bytes(run: Run, tmp_path: Path, ragged: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": text} for text in ragged * 2])
    arguments = ["generate", "-i", rows, "--max-new-tokens", "3", "--batch-size", "8"]
    assert run(*arguments, "-o", tmp_path / "whole.jsonl").code == 0
    for number in (1, 2):
        assert run(*arguments, "-o", tmp_path / "out.jsonl", "--shard", f"{number}/2").code == 0
        assert len((tmp_path / f"out.jsonl.shard-{number}-of-2").read_text().splitlines()) == 24
    assert run("gather", tmp_path / "out.jsonl").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_shard_without_a_row_says_so_and_is_gathered(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}, {"prompt": "The king"}])
    arguments = ["generate", "-i", rows, "-o", tmp_path / "out.jsonl", "--max-new-tokens", "1"]
    assert run(*arguments, "--shard", "1/2").code == 0
    assert "none of the 2 rows in" in run(*arguments, "--shard", "2/2").err
    assert run("gather", tmp_path / "out.jsonl").code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_lines_of_an_openai_batch_are_gathered_too(run: Run, tmp_path: Path, job: list[object]) -> None:
    more = [*job, "--output-format", "openai-batch", "-o"]
    assert run(*more, tmp_path / "whole.jsonl").code == 3
    for number in (1, 2):
        run(*more, tmp_path / "out.jsonl", "--shard", f"{number}/2")
    assert run("gather", tmp_path / "out.jsonl").code == 3
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_failed_rows_are_run_again_when_their_shards_are_gathered(run: Run, shards: Path, server: FakeServer, job: list[object]) -> None:
    refused = run(*job, "-o", shards, "--shard", "1/3", "--retry-failed")
    assert refused.code == 2
    assert "gather the shards, then run without --shard" in refused.err
    assert run("gather", shards).code == 3
    before, asked = shards.read_bytes(), len(server.bodies)
    assert run(*job, "-o", shards, "--retry-failed").code == 3  # of rows that can't be read nobody is asked
    assert (shards.read_bytes(), len(server.bodies)) == (before, asked)


def test_a_killed_shard_resumes(tmp_path: Path, server: FakeServer, job: list[object]) -> None:
    server.latency = 0.02
    arguments = [*job, "-o", tmp_path / "out.jsonl", "--concurrency", "2", "--shard"]
    journal = tmp_path / "out.jsonl.shard-1-of-2.journal"
    running = start(*arguments, "1/2")
    assert until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 8, running)
    assert kill(running)
    before = len(server.bodies)
    assert finish(start(*arguments, "1/2")).code == 3
    assert len(server.bodies) - before < 35
    assert finish(start(*arguments, "2/2")).code == 0
    assert finish(start("gather", tmp_path / "out.jsonl")).code == 3


@pytest.fixture
def shards(run: Run, tmp_path: Path, job: list[object]) -> Path:
    """An output whose three shards are done."""
    for number in (1, 2, 3):
        run(*job, "-o", tmp_path / "out.jsonl", "--shard", f"{number}/3")
    return tmp_path / "out.jsonl"


def test_a_missing_shard_is_named(run: Run, shards: Path) -> None:
    shards.with_name("out.jsonl.shard-2-of-3").unlink()
    ran = run("gather", shards)
    assert ran.code == 2
    assert "1 of 3 shards are missing: out.jsonl.shard-2-of-3" in ran.err
    assert not shards.exists()


@pytest.mark.parametrize("name", ["shard-4-of-3", "shard-02-of-3", "shard-2-of-03", "shard-0-of-3"])
def test_a_shard_that_no_run_writes_is_named(run: Run, shards: Path, name: str) -> None:
    shutil.copy(f"{shards}.shard-2-of-3", f"{shards}.{name}")
    ran = run("gather", shards)
    assert ran.code == 2
    assert f"out.jsonl.{name}" in ran.err
    assert not shards.exists()


def test_an_unfinished_shard_is_named(run: Run, shards: Path) -> None:
    shards.with_name("out.jsonl.shard-2-of-3").rename(shards.with_name("out.jsonl.shard-2-of-3.journal"))
    ran = run("gather", shards)
    assert ran.code == 2
    assert "unfinished: out.jsonl.shard-2-of-3" in ran.err


def test_a_shard_of_another_run_is_named_with_what_differs(run: Run, shards: Path, job: list[object]) -> None:
    assert run(*job, "-o", shards, "--shard", "2/3", "--seed", "5", "--overwrite").code == 3
    ran = run("gather", shards)
    assert ran.code == 2
    assert "out.jsonl.shard-2-of-3: it belongs to another run than out.jsonl.shard-1-of-3: seed was 0, is 5" in ran.err


def test_shards_of_two_plans_overlap(run: Run, shards: Path, job: list[object]) -> None:
    assert run(*job, "-o", shards, "--shard", "1/2").code == 3
    ran = run("gather", shards)
    assert ran.code == 2
    assert "out.jsonl.shard-*-of-2 and out.jsonl.shard-*-of-3" in ran.err


def test_a_shard_under_the_name_of_another_is_refused(run: Run, shards: Path) -> None:
    for ending in ("", ".run.json"):
        shutil.copy(shards.with_name(f"out.jsonl.shard-1-of-3{ending}"), shards.with_name(f"out.jsonl.shard-2-of-3{ending}"))
    ran = run("gather", shards)
    assert ran.code == 2
    assert "out.jsonl.shard-2-of-3: its record says that it is shard 1/3" in ran.err


def test_an_edited_shard_is_refused(run: Run, shards: Path) -> None:
    path = shards.with_name("out.jsonl.shard-3-of-3")
    path.write_text(path.read_text().replace("row 1", "row one", 1))
    ran = run("gather", shards)
    assert ran.code == 2
    assert "out.jsonl.shard-3-of-3: its content has changed since the run wrote it" in ran.err


def test_an_output_that_is_there_is_not_replaced_unasked(run: Run, shards: Path) -> None:
    assert run("gather", shards).code == 3
    before = shards.read_bytes()
    again = run("gather", shards)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert run("gather", shards, "--overwrite").code == 3
    assert shards.read_bytes() == before


def test_nothing_to_gather_says_what_to_do_first(run: Run, tmp_path: Path) -> None:
    ran = run("gather", tmp_path / "out.jsonl")
    assert ran.code == 2
    assert "--shard 1/N" in ran.err


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "1/2/3", "-1/2", ""])
def test_what_is_no_part_is_refused(run: Run, text: str) -> None:
    with pytest.raises(UsageError):
        parse_shard(text)
    ran = run("generate", "-i", "x.jsonl", "-o", "y.jsonl", f"--shard={text}")
    assert ran.code == 2
    assert "1/8 is the first of eight" in ran.err


def test_a_shard_needs_an_output_of_rows(run: Run, tmp_path: Path, job: list[object]) -> None:
    assert "--output" in run(*job, "--shard", "1/2").err
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nGood morning.\n")
    ran = run("translate", "-i", tmp_path / "a.srt", "-o", tmp_path / "b.srt", "--to", "fr", "--shard", "1/2")
    assert ran.code == 2
    assert "documents" in ran.err
    assert run(*job, "-o", tmp_path / "out.xyz", "--shard", "1/2").code == 2


def test_every_row_and_every_batch_is_in_one_shard() -> None:
    shards = [Shard(number, 7) for number in range(1, 8)]
    assert all(sum(shard.has_row(index) for shard in shards) == 1 for index in range(100))
    assert all(sum(shard.has_batch(window, place) for shard in shards) == 1 for window in range(20) for place in range(20))


@pytest.mark.parametrize("order", ["by chance", "longest last"])
@pytest.mark.parametrize("count", [2, 4, 5, 8])
def test_shards_have_equal_work_however_long_the_rows_are(count: int, order: str) -> None:
    chance = random.Random(1)
    lengths = [min(230, int(chance.lognormvariate(3.2, 0.9)) + 1) for _ in range(16 * WINDOW_ROWS)]
    if order == "longest last":
        lengths.sort()
    work = [0] * count
    for window in range(16):
        start = window * WINDOW_ROWS
        works = [Work(Row(i, i + 1, {}), length=lengths[i], max_new_tokens=16) for i in range(start, start + WINDOW_ROWS)]
        planned = batches(works, rows=None, tokens=16_384)
        for number in range(count):
            shard = Shard(number + 1, count)
            work[number] += sum(len(b) * (b[0].length + 16) for place, b in enumerate(planned) if shard.has_batch(window, place))
    assert max(work) <= 1.05 * sum(work) / count
