"""The batches of a job: each row once, in any order, and in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, Run, read_rows, write_rows

from llmkit.jobs.batching import Work, batches
from llmkit.rows import Row


def test_out_of_memory_halves_the_batch_keeps_what_is_done_and_says_so(run: Run, gpt2: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "prompt": f"{i:03} " + "ab" * 60} for i in range(512)])
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


@pytest.mark.parametrize(
    ("message", "is_memory"),
    [
        ("could not create a primitive", True),  # oneDNN, where it gets no memory for a kernel that it has
        ("could not create a primitive descriptor for the matmul primitive", False),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_memory_that_has_run_out_is_known_by_what_torchs_libraries_say(message: str, is_memory: bool) -> None:
    from llmkit.engines.torch.devices import is_out_of_memory

    assert is_out_of_memory(RuntimeError(message)) is is_memory


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
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
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


def test_batches_that_come_back_in_another_order_give_the_same_bytes(llama: Path, tmp_path: Path, words: list[str]) -> None:
    """An executor of workers elsewhere answers batches as they are ready; one writer journals them."""
    from collections.abc import Iterable, Iterator, Sequence

    import llmkit
    from llmkit.engines.decoding import Decoding
    from llmkit.jobs.executor import Answered
    from llmkit.jobs.output import Output
    from llmkit.jobs.reporter import Silent
    from llmkit.jobs.run import RunName, file_job
    from llmkit.jobs.settings import JobSettings
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
