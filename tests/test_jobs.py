"""A job survives whatever happens to it, and ends in the same bytes."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from conftest import PATIENCE, Copy, Process, Run, finish, kill, read_rows, start, stopped, until, write_rows

from llmkit.errors import StoppedError
from llmkit.jobs.journal import Journal

#: On the engine that starts in a second: what a job keeps is the same on each.
TINY = ["--max-new-tokens", "4", "--chat-template", "none", "--engine", "ctranslate2"]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def command(folder: Path, llama: Path, words: list[str]) -> list[str]:
    """A job of 3,000 ragged rows, which are written into the folder, in some 400 batches; all but its -o."""
    rows = [{"id": i, "prompt": " ".join(words[(i * 7 + j) % len(words)] for j in range(1 + i % 9))} for i in range(3000)]
    path = write_rows(folder / "in.jsonl", rows)
    return ["generate", "-m", str(llama), "-i", str(path), *TINY, "--batch-size", "8"]


@pytest.fixture
def job(tmp_path: Path, llama: Path, words: list[str]) -> list[str]:
    return command(tmp_path, llama, words)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, llama: Path, words: list[str]) -> Path:
    """A folder in which a job was killed after some batches."""
    folder = tmp_path_factory.mktemp("killed")
    journal = folder / "out.jsonl.journal"
    running = start(*command(folder, llama, words), "-o", folder / "out.jsonl")
    assert until(lambda: size(journal) > 20_000, running)
    kill(running)
    assert journal.exists()
    assert not (folder / "out.jsonl").exists()
    return folder


@pytest.fixture
def half(killed: Path, tmp_path: Path) -> Path:
    """An output of the same job, with what the killed one left beside it."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, llama: Path, words: list[str]) -> bytes:
    """What the job writes when nothing happens to it."""
    from llmkit.cli import app

    folder = tmp_path_factory.mktemp("whole")
    assert app.run([*command(folder, llama, words), "-o", str(folder / "out.jsonl")]) == 0
    return (folder / "out.jsonl").read_bytes()


def killed_and_resumed(run: Run, tmp_path: Path, llama: Path, words: list[str], *, rows: int, batch: int, kills: int) -> int:
    """A job killed again and again ends in the bytes of one that was left alone. Returns how many kills met a running process."""
    prompts = [{"id": i, "prompt": " ".join(words[(i * 7 + j) % len(words)] for j in range(1 + i % 5))} for i in range(rows)]
    path = write_rows(tmp_path / "in.jsonl", prompts)
    arguments = ["generate", "-m", llama, "-i", path, *TINY, "--max-new-tokens", "2", "--batch-size", batch]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert run(*arguments, "-o", whole).code == 0
    journal = tmp_path / "killed.jsonl.journal"
    choose = random.Random(4)
    met = 0
    # the journal's end is not known beforehand; it is about as large as the output
    for goal in sorted(choose.uniform(0.0, 1.2) * size(whole) for _ in range(kills)):
        running = start(*arguments, "-o", killed)
        until(functools.partial(_grown, journal, goal), running)
        met += kill(running)
    assert run(*arguments, "-o", killed).code == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("killed*")) == ["killed.jsonl", "killed.jsonl.run.json"]
    return met


def _grown(journal: Path, goal: float) -> bool:
    return journal.exists() and size(journal) >= goal


def test_a_job_that_is_killed_ends_in_the_same_bytes(run: Run, tmp_path: Path, llama: Path, words: list[str]) -> None:
    assert killed_and_resumed(run, tmp_path, llama, words, rows=3000, batch=4, kills=3) >= 2


@pytest.mark.slow
def test_ten_thousand_prompts_killed_twenty_times_end_in_the_same_bytes(run: Run, tmp_path: Path, llama: Path, words: list[str]) -> None:
    assert killed_and_resumed(run, tmp_path, llama, words, rows=10_000, batch=128, kills=20) >= 15


def test_a_resumed_job_says_what_was_there(run: Run, job: list[str], half: Path, whole: bytes) -> None:
    ran = run(*job, "-o", half)
    assert ran.code == 0
    assert half.read_bytes() == whole
    assert "3,000 rows (" in ran.err
    assert "from before)" in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_the_batch_and_says_how_to_go_on(
    run: Run, job: list[str], whole: bytes, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "out.jsonl"
    running = start(*job, "-o", out)
    assert until(lambda: size(tmp_path / "out.jsonl.journal") > 5_000, running)
    running.send_signal(number)
    ended = finish(running)
    assert ended.code == code
    assert "run the same command again to continue" in ended.err
    assert "Traceback" not in ended.err
    assert run(*job, "-o", out).code == 0
    assert out.read_bytes() == whole


def test_max_time_ends_with_124_and_the_same_command_goes_on(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = run(*job, "-o", out, "--max-time", "0.05s")
    assert ran.code == 124
    assert "--max-time" in ran.err
    assert run(*job, "-o", out).code == 0
    assert len(read_rows(out)) == 3000


def test_a_second_process_on_one_output_is_refused_with_the_holders_pid(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    running = start(*job, "-o", out)
    assert until(lambda: (tmp_path / "out.jsonl.journal").exists(), running)
    with stopped(running):
        ran = run(*job, "-o", out)
    assert ran.code == 2
    assert f"process {running.pid}" in ran.err
    assert run(*job, "-o", out).code == 0  # the dead process's lock is taken over


def test_a_torn_last_line_of_the_journal_is_dropped(run: Run, job: list[str], half: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-7])
    assert run(*job, "-o", half).code == 0
    assert [row["id"] for row in read_rows(half)] == list(range(3000))


def test_an_edited_journal_is_refused(run: Run, job: list[str], half: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl.journal"
    lines = journal.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b'"id":', b'"iD":', 1)
    journal.write_bytes(b"\n".join(lines))
    ran = run(*job, "-o", half)
    assert ran.code == 2
    assert "damaged or edited" in ran.err
    assert run(*job, "-o", half, "--restart").code == 0


def test_a_journal_of_another_format_is_refused(run: Run, job: list[str], half: Path, tmp_path: Path) -> None:
    content = b'{"journal":99,"identity":{}}'
    (tmp_path / "out.jsonl.journal").write_bytes(b"%08x %s\n" % (zlib.crc32(content), content))
    ran = run(*job, "-o", half)
    assert ran.code == 2
    assert "another format (99)" in ran.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--max-new-tokens", "5"], "max_new_tokens was 4, is 5"),
        (["--beams", "2"], "beams was 1, is 2"),
        (["--output-field", "answer"], "output_field was text, is answer"),
    ],
)
def test_a_resume_with_other_options_is_refused_and_says_what_changed(
    run: Run, job: list[str], half: Path, change: list[str], said: str
) -> None:
    ran = run(*job, "-o", half, *change)
    assert ran.code == 2
    assert said in ran.err
    assert "--restart" in ran.err


def test_a_resume_with_another_model_is_refused(run: Run, job: list[str], half: Path, copy_of: Copy, llama: Path) -> None:
    other = copy_of(llama)
    changed = [str(other) if item == str(llama) else item for item in job]
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 99}))
    ran = run(*changed, "-o", half)
    assert ran.code == 2
    assert "model.model was" in ran.err


def test_a_resume_with_changed_input_is_refused_with_its_line(run: Run, job: list[str], half: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    changed = [line.replace("the", "THE").replace("king", "KING") for line in lines]
    path.write_text("".join(changed))
    ran = run(*job, "-o", half)
    assert ran.code == 2
    assert "line " in ran.err
    assert "has changed since the earlier run" in ran.err
    path.write_text("".join(lines[:3]))
    fewer = run(*job, "-o", half)
    assert fewer.code == 2
    assert "fewer rows" in fewer.err


def test_the_same_command_after_the_end_does_nothing(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(*job, "-o", out, "--limit", "20").code == 0
    before = out.stat().st_mtime_ns
    ran = run(*job, "-o", out, "--limit", "20")
    assert ran.code == 0
    assert "already complete" in ran.err
    assert out.stat().st_mtime_ns == before


def test_an_output_of_another_run_is_kept_unless_overwrite_says_so(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    ran = run(*job, "-o", out)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert out.read_text() == "mine\n"
    assert run(*job, "-o", out, "--overwrite", "--limit", "10").code == 0
    assert run(*job, "-o", out, "--limit", "11").code == 2


def test_a_full_disk_keeps_what_is_done(process: Process, run: Run, job: list[str], whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    ran = process(*job, "-o", out, preexec_fn=small_files)
    assert ran.code == 5
    assert "finished work is kept" in ran.err
    assert run(*job, "-o", out).code == 0
    assert out.read_bytes() == whole


def test_failed_rows_are_run_again_and_the_others_kept(run: Run, llama: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    arguments = ["generate", "-m", llama, "-i", path, "-o", out, *TINY]
    path.write_text('{"prompt": "a"}\n{"prompt": ""}\n{"prompt": 3}\n')
    assert run(*arguments).code == 3
    first = read_rows(out)
    ran = run(*arguments, "--retry-failed")
    assert ran.code == 3
    assert read_rows(out) == first
    assert "1 of 3 rows failed" in ran.err


def test_a_kept_row_counts_its_tokens_also_where_its_input_held_the_same_counts(run: Run, llama: Path, tmp_path: Path) -> None:
    """The output of a run is the input of the next, whose answers have as many tokens."""
    path, first, second = tmp_path / "in.jsonl", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": 3}\n')
    run("generate", "-m", llama, "-i", path, "-o", first, *TINY)
    chained = ["generate", "-m", llama, "-i", first, "-o", second, *TINY]
    run(*chained)
    record = second.with_name(second.name + ".run.json")
    counts = {name: json.loads(record.read_text())["result"][name] for name in ("prompt_tokens", "completion_tokens")}
    assert min(counts.values()) > 0
    assert run(*chained, "--retry-failed").code == 3
    assert {name: json.loads(record.read_text())["result"][name] for name in counts} == counts


def test_max_errors_ends_the_run_with_3(run: Run, llama: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"prompt": "a"}\n' + '{"prompt": 3}\n' * 5)
    ran = run("generate", "-m", llama, "-i", path, "-o", out, *TINY, "--max-errors", "4")
    assert ran.code == 3
    assert "--max-errors 4" in ran.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [("missing/out.jsonl", "there is no folder"), (".", "is a folder"), ("out.xyz", ".csv or .tsv"), ("in.jsonl", "is the input")],
)
def test_outputs_that_cannot_be_are_refused_before_a_model_is_loaded(
    run: Run, job: list[str], tmp_path: Path, output: str, said: str
) -> None:
    ran = run(*job, "-m", "no-such-folder/", "-o", tmp_path / output)
    assert ran.code == 2
    assert said in ran.err


def test_an_output_in_a_read_only_folder_is_refused(process: Process, job: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    ran = process(*job, "-o", folder / "out.jsonl", preexec_fn=_bound_by_permissions)
    assert ran.code == 2
    assert "out.jsonl: not writable" in ran.err


def _bound_by_permissions() -> None:
    """Takes root's right to write anywhere (CAP_DAC_OVERRIDE) out of the bounding set; others never had it."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_symbolic_link_is_followed_and_one_at_the_journals_name_is_not(run: Run, job: list[str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "real.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    assert run(*job, "-o", link, "--limit", "3").code == 0
    assert link.is_symlink()
    assert len(read_rows(target)) == 3
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "out.jsonl.journal").symlink_to(precious)
    assert run(*job, "-o", tmp_path / "out.jsonl", "--limit", "3").code == 2
    assert precious.read_text() == "keep"


def test_permissions_follow_the_umask(process: Process, job: list[str], tmp_path: Path) -> None:
    def private() -> None:
        os.umask(0o077)

    out = tmp_path / "out.jsonl"
    assert process(*job, "-o", out, "--limit", "3", preexec_fn=private).code == 0
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_journal_reads_back_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = Journal(path, {"a": 1})
    entries = [{"window": 0, "rows": [[0, "x", {"text": "é\ud800\n"}]]}, {"window": 1, "rows": []}]
    for entry in entries:
        first.append(entry)
    first.close()
    again = Journal(path, {"a": 1})
    assert again.resumed
    assert list(again.entries()) == entries
    again.close()


#: A process that gets three signals: at 0 s, a twentieth of a second later, and another half a second later.
SIGNALED = """
import signal
from llmkit.jobs.stopping import Stopping
times = iter([0.0, 0.0, 0.05, 0.55])
with Stopping(None, print, clock=lambda: next(times)):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    print("goes on", flush=True)
    signal.raise_signal(signal.SIGTERM)
    print("is still there", flush=True)
"""


def test_a_signal_that_a_launcher_repeats_is_the_same_one_and_a_later_one_ends_the_run_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALED], capture_output=True, check=False, timeout=PATIENCE)
    assert done.returncode == 143, done.stderr
    assert done.stdout.decode().splitlines() == ["finishing this batch; press Ctrl-C again to stop now", "goes on"]


def test_one_process_of_a_run_can_tell_the_others_why_it_ends() -> None:
    reason = StoppedError(signal.SIGTERM, "stopped by SIGTERM", hint="run it again")
    told = pickle.loads(pickle.dumps(reason))
    assert (type(told), str(told), told.__dict__) == (StoppedError, "stopped by SIGTERM", reason.__dict__)
