"""A job survives whatever happens to it, and ends in the same bytes."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from conftest import PATIENCE, Copy, Process, Run, finish, kill, read_rows, start, until, write_rows

from llmkit.jobs.batching import Work, batches
from llmkit.jobs.journal import Journal
from llmkit.rows import Row

TINY = ["--max-new-tokens", "4", "--chat-template", "none"]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.fixture
def job(tmp_path: Path, llama: Path, words: list[str]) -> list[str]:
    """A job of 600 ragged rows in some 75 batches, all but its -o."""
    rows = [{"id": i, "prompt": " ".join(words[(i * 7 + j) % len(words)] for j in range(1 + i % 9))} for i in range(600)]
    path = write_rows(tmp_path / "in.jsonl", rows)
    return ["generate", "-m", str(llama), "-i", str(path), *TINY, "--batch-size", "8"]


@pytest.fixture
def half(job: list[str], tmp_path: Path) -> Path:
    """An output whose job was killed after some batches."""
    out = tmp_path / "out.jsonl"
    journal = tmp_path / "out.jsonl.journal"
    running = start(*job, "-o", out)
    assert until(lambda: size(journal) > 20_000, running)
    kill(running)
    assert journal.exists()
    assert not out.exists()
    return out


def killed_and_resumed(run: Run, tmp_path: Path, llama: Path, words: list[str], *, rows: int, batch: int, kills: int) -> int:
    """A job killed again and again ends in the bytes of one that was left alone. Returns how many kills met a running process."""
    prompts = [{"id": i, "prompt": " ".join(words[(i * 7 + j) % len(words)] for j in range(1 + i % 5))} for i in range(rows)]
    path = write_rows(tmp_path / "in.jsonl", prompts)
    arguments = ["generate", "-m", llama, "-i", path, "--max-new-tokens", "2", "--chat-template", "none", "--batch-size", batch]
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
    assert killed_and_resumed(run, tmp_path, llama, words, rows=600, batch=4, kills=3) >= 2


@pytest.mark.slow
def test_ten_thousand_prompts_killed_twenty_times_end_in_the_same_bytes(run: Run, tmp_path: Path, llama: Path, words: list[str]) -> None:
    assert killed_and_resumed(run, tmp_path, llama, words, rows=10_000, batch=128, kills=20) >= 15


def test_a_resumed_job_says_what_was_there(run: Run, job: list[str], half: Path) -> None:
    ran = run(*job, "-o", half)
    assert ran.code == 0
    assert "600 rows (" in ran.err
    assert "from before)" in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_the_batch_and_says_how_to_go_on(
    run: Run, job: list[str], tmp_path: Path, number: int, code: int
) -> None:
    out, reference = tmp_path / "out.jsonl", tmp_path / "reference.jsonl"
    running = start(*job, "-o", out)
    assert until(lambda: size(tmp_path / "out.jsonl.journal") > 5_000, running)
    running.send_signal(number)
    ended = finish(running)
    assert ended.code == code
    assert "run the same command again to continue" in ended.err
    assert "Traceback" not in ended.err
    assert run(*job, "-o", out).code == 0
    assert run(*job, "-o", reference).code == 0
    assert out.read_bytes() == reference.read_bytes()


def test_max_time_ends_with_124_and_the_same_command_goes_on(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = run(*job, "-o", out, "--max-time", "0.05s")
    assert ran.code == 124
    assert "--max-time" in ran.err
    assert run(*job, "-o", out).code == 0
    assert len(read_rows(out)) == 600


def test_a_second_process_on_one_output_is_refused_with_the_holders_pid(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    running = start(*job, "-o", out)
    assert until(lambda: (tmp_path / "out.jsonl.journal").exists(), running)
    running.send_signal(signal.SIGSTOP)
    try:
        ran = run(*job, "-o", out)
    finally:
        kill(running)
    assert ran.code == 2
    assert f"process {running.pid}" in ran.err
    assert run(*job, "-o", out).code == 0  # the dead process's lock is taken over


def test_a_torn_last_line_of_the_journal_is_dropped(run: Run, job: list[str], half: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-7])
    assert run(*job, "-o", half).code == 0
    assert [row["id"] for row in read_rows(half)] == list(range(600))


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
        (["--temperature", "1"], "temperature"),
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


def test_a_full_disk_keeps_what_is_done(process: Process, run: Run, job: list[str], tmp_path: Path) -> None:
    out, reference = tmp_path / "out.jsonl", tmp_path / "reference.jsonl"

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    ran = process(*job, "-o", out, preexec_fn=small_files)
    assert ran.code == 5
    assert "finished work is kept" in ran.err
    assert run(*job, "-o", out).code == 0
    assert run(*job, "-o", reference).code == 0
    assert out.read_bytes() == reference.read_bytes()


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


def test_out_of_memory_halves_the_batch_keeps_what_is_done_and_says_so(run: Run, gpt2: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "prompt": "ab" * 60} for i in range(512)])
    out, reference = tmp_path / "out.jsonl", tmp_path / "reference.jsonl"
    arguments = ["generate", "-m", gpt2, "-i", rows, "--max-new-tokens", "2", "--batch-size", "512", "--batch-tokens", "1M"]
    # a small run first, and one thread, so that the limit leaves room for batches and not for libraries
    code = f"""
import os, resource, sys
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
from llmkit.cli.app import run
arguments = {[str(a) for a in arguments]!r}
assert run([*arguments, "--limit", "4", "-o", {str(tmp_path / "warm.jsonl")!r}]) == 0
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 120 * 2**20,) * 2)
sys.exit(run([*arguments, "-o", {str(out)!r}]))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "out of memory with 512 rows at once; continuing with 256" in done.stderr
    assert run(*arguments, "-o", reference).code == 0
    assert [row["text"] for row in read_rows(out)] == [row["text"] for row in read_rows(reference)]


def test_the_run_record_tells_what_is_needed_to_run_it_again(run: Run, job: list[str], tmp_path: Path) -> None:
    import hashlib

    out = tmp_path / "out.jsonl"
    assert run(*job, "-o", out, "--limit", "9", "--seed", "5").code == 0
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert record["command"] == "generate"
    assert record["options"]["limit"] == 9
    assert record["identity"]["seed"] == 5
    assert {"model.weights_sha256", "model.tokenizer_sha256", "model.device", "model.dtype", "model.engine"} <= record["identity"].keys()
    assert {"torch", "transformers", "python"} <= record["versions"].keys()
    result = record["result"]
    assert result["output_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (result["rows"], result["failed"], result["completion_tokens"]) == (9, 0, 36)
    assert result["seconds"] > 0
    assert result["peak_memory_bytes"] > 0


def test_rerun_says_whether_the_result_is_the_same(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(*job, "-o", out, "--limit", "9", "--temperature", "1", "--stop", "--x", "--stop", "e").code == 0
    ran = run("rerun", f"{out}.run.json")
    assert ran.code == 0
    assert "same result: 9 rows" in ran.err
    record = json.loads(Path(f"{out}.run.json").read_text())
    record["result"]["output_sha256"] = "0" * 64
    Path(f"{out}.run.json").write_text(json.dumps(record))
    ran = run("rerun", f"{out}.run.json")
    assert ran.code == 4
    assert "different result" in ran.err


@pytest.mark.parametrize("command", [["perplexity"], ["score", "--metrics", "exact_match", "--max-new-tokens", "2"]])
def test_an_evaluation_that_wrote_rows_can_be_run_again(run: Run, llama: Path, tmp_path: Path, command: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "the king", "prompt": "the king", "reference": "and"}] * 3)
    out = tmp_path / "out.jsonl"
    arguments = ["evaluate", *command, "-m", llama, "-i", rows, "-o", out, "--chat-template", "none", "--json"]
    assert run(*arguments).code == 0
    ran = run("rerun", f"{out}.run.json")
    assert ran.code == 0, ran.err
    assert "same result: 3 rows" in ran.err


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"command": "rm", "result": {}, "options": {}}'])
def test_rerun_refuses_what_is_no_record(run: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.run.json"
    path.write_text(content)
    ran = run("rerun", path)
    assert ran.code == 2
    assert "run record" in ran.err


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """The whole way from file to file, with a task that answers at once."""
    peaks = []
    for count in (10_000, 200_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for i in range(count):
                file.write(f'{{"id": {i}, "prompt": "row number {i} of a long file"}}\n')
        code = f"""
from llmkit.cli.console import Console
from llmkit.jobs.run import JobSettings, RunName, file_job
from llmkit.jobs.outcome import Answer
from llmkit.jobs.output import Output
from llmkit.jobs.batching import Work
from llmkit.records import peak_memory_bytes
from llmkit.rows import open_rows

class Echo:
    width = 1
    def prepare(self, row):
        return Work(row, row.fields["prompt"], len(row.fields["prompt"]), 1)
    def answer(self, batch, check):
        return [Answer({{"text": work.payload}}, None, 1, 1) for work in batch]

rows, output = open_rows({str(path)!r}), Output({str(path) + ".out.jsonl"!r})
tally = file_job(rows, Echo(), JobSettings(), output, Console(True), RunName("generate"))
assert tally.rows == {count}
output.release()
print(peak_memory_bytes())
"""
        peaks.append(int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE).stdout))
    assert peaks[1] < 1.1 * peaks[0]


def test_batches_hold_each_row_once_within_the_budget() -> None:
    from hypothesis import given
    from hypothesis import strategies as st

    @given(
        st.lists(st.tuples(st.integers(1, 50), st.sampled_from([4, 9])), max_size=60),
        st.integers(1, 9),
        st.integers(1, 400),
        st.integers(1, 3),
    )
    def check(lengths: list[tuple[int, int]], rows: int, tokens: int, width: int) -> None:
        works = [Work(Row(i, i + 1, {}), None, length, limit) for i, (length, limit) in enumerate(lengths)]
        planned = batches(works, rows=rows, tokens=tokens, width=width)
        assert sorted(w.row.index for batch in planned for w in batch) == list(range(len(works)))
        for batch in planned:
            assert len(batch) <= rows
            positions = max(w.length for w in batch) + max(w.max_new_tokens for w in batch)
            assert len(batch) == 1 or positions * len(batch) * width <= tokens

    check()


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


def test_a_second_signal_ends_the_run_at_once(job: list[str], tmp_path: Path) -> None:
    running = start(*job, "-o", tmp_path / "out.jsonl", "--batch-size", "600", "--max-new-tokens", "200")
    assert until(lambda: (tmp_path / "out.jsonl.journal").exists(), running)
    running.send_signal(signal.SIGTERM)
    assert running.stderr is not None
    for line in running.stderr:  # ends with the process
        if b"again to stop" in line:
            running.send_signal(signal.SIGTERM)
            break
    assert finish(running).code == 143
    assert len((tmp_path / "out.jsonl.journal").read_bytes().splitlines()) <= 1  # no batch was finished


def test_batches_that_come_back_in_another_order_give_the_same_bytes(llama: Path, tmp_path: Path, words: list[str]) -> None:
    """An executor of workers elsewhere answers batches as they are ready; one writer journals them."""
    from collections.abc import Iterable, Iterator, Sequence

    import llmkit
    from llmkit.engines.decoding import Decoding
    from llmkit.jobs.executor import Answered
    from llmkit.jobs.output import Output
    from llmkit.jobs.reporter import Silent
    from llmkit.jobs.run import JobSettings, RunName, file_job
    from llmkit.rows import open_rows
    from llmkit.rows.fields import PromptFields
    from llmkit.tasks.generate import Answering

    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": " ".join(words[: 1 + i % 9])} for i in range(60)])
    engine = llmkit.load(str(llama), chat_template="none")

    class Backwards:
        def __init__(self, task: Answering) -> None:
            self.task = task

        def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
            for batch in reversed(list(batches)):
                for part in (batch[len(batch) // 2 :], batch[: len(batch) // 2]):
                    if part:
                        yield part, self.task.answer(part)

    outputs = []
    for name in ("here", "elsewhere"):
        task = Answering(engine, Decoding(max_new_tokens=3), PromptFields(), "text", "in.jsonl")
        with Output(str(tmp_path / f"{name}.jsonl")) as output:
            executor = Backwards(task) if name == "elsewhere" else None
            file_job(open_rows(str(rows)), task, JobSettings(batch_size=8), output, Silent(), RunName("generate"), executor)
        outputs.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 60
