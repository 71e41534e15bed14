"""What more workers and more rows cost: on workers that take a given time per batch, and on long journals.

Scaling: rows per second, until the last answer, on 1, 2, 4 and 8 workers on Ray, whose batches take a second each, as a share of what as
many workers could do at most. Memory: of the process that plans and writes, whose workers answer at once. Resuming: a run of ten times as
many rows that was ended shortly before its last, until the first batch is asked for again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.running import environment, process

#: What the code below shares: a task that takes some seconds for a batch, and a job with it.
_JOB = """
import sys, time
from llmkit.cli.console import Console
from llmkit.errors import TimeUpError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.jobs.output import Output
from llmkit.jobs.run import JobSettings, RunName, file_job
from llmkit.rows import open_rows

class Echo:
    width = 1
    def __init__(self, seconds):
        self.seconds = seconds
    def prepare(self, row):
        return Work(row, row.fields["prompt"], 8, 1)
    def answer(self, batch, *_):
        time.sleep(self.seconds)
        return [Answer({"text": work.payload}, None, 1, 1) for work in batch]

def tell(seconds):
    with open(sys.argv[-1] + ".seconds", "w") as file:
        file.write(str(seconds))

def job(task, path, out, **settings):
    with Output(out, overwrite=True) as output:
        return file_job(open_rows(path), task, JobSettings(**settings), output, Console(True), RunName("generate"))
"""
_WORKERS = """
from llmkit.jobs.ray import crew
from llmkit.jobs.workers import WorkerSettings

count, seconds, path, out = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
with crew(WorkerSettings(count, cpus=0.01), [], Console(True)) as workers:
    while workers.ready < count:
        workers.events(1.0)
    tell(job(Echo(seconds), path, out, batch_size=64, crew=workers).seconds)
"""
#: Writes the journal of a run that was ended two windows before its last row, as the job writes it and in a hundredth of the time.
_BEGUN = """
import hashlib, zlib
from pathlib import Path
from llmkit.jobs import marks
from llmkit.jobs.batching import WINDOW_ROWS
from llmkit.jobs.journal import Journal
from llmkit.jobs.outcome import RowsDigest, Tally
from llmkit.rows import Place
from llmkit.rows.values import to_json

path, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
journal = Journal(Path(out + ".journal"), {})
journal.close()
file = open(out + ".journal", "rb+")
header = file.readline()
crc, at = int(header[:8], 16), len(header)

def add(content):
    global crc, at
    crc = zlib.crc32(content, crc)
    at += file.write(b"%08x %s\\n" % (crc, content))

prefix, chain, size = hashlib.sha256(), RowsDigest(), 0
windows = count // WINDOW_ROWS - 2
with open(path) as rows:
    for window in range(windows):
        lines = [next(rows) for _ in range(WINDOW_ROWS)]
        data = "".join(lines).encode()
        prefix.update(data)
        size += len(data)
        digests = [hashlib.sha256(line[:-1].encode()).hexdigest()[:16] for line in lines]
        for digest in digests:
            chain.add(digest)
        texts = [line.partition("prompt")[2][3:-2] for line in lines]
        for start in range(0, WINDOW_ROWS, 64):
            saved = ",".join(
                f'[{window * WINDOW_ROWS + i},"{digests[i]}",{lines[i][:-1]},{{"text":{texts[i]}}},null,[1,1,0]]'
                for i in range(start, start + 64)
            )
            add(f'{{"window":{window},"rows":[{saved}],"seconds":0.01}}'.encode())
        if (window + 1) % marks.EVERY == 0:
            done = marks.EVERY * WINDOW_ROWS
            tally = Tally(rows=done, prompt_tokens=done, completion_tokens=done)
            place = Place("jsonl, text", (window + 1) * WINDOW_ROWS, (window + 1) * WINDOW_ROWS, size, prefix.hexdigest())
            mark = marks.Mark(window + 1, place, at, chain.state, 0, 0.16 * marks.EVERY, tally)
            add(to_json(mark.entry(), separators=(",", ":")).encode())
file.close()
"""
_RESUMED = """
begun = time.monotonic()
class Asked(Exception):
    pass
class Asking(Echo):
    def answer(self, batch, *_):
        tell(time.monotonic() - begun)
        raise Asked
try:
    job(Asking(0), sys.argv[1], sys.argv[2])
except Asked:
    pass
"""


def main(rows: Sequence[int], out: Path, scratch: Path, *, quick: bool) -> None:
    """Measures each, prints it, and writes scale.json. rows: of the runs whose memory is measured."""
    found: dict[str, list[dict[str, float]]] = {"workers": [], "memory": [], "resuming": []}
    each = 8 if quick else 30
    for count in (1, 2, 4, 8):
        path = _rows(scratch, 64 * each * count)
        seconds = _run(_WORKERS, count, 1.0, path, f"{path}.out.jsonl")[0]
        found["workers"].append({"workers": count, "seconds": seconds, "of_linear": each / seconds})
        print(f"{count} workers: {each * count} batches of 1 s in {seconds:.2f} s, {100 * each / seconds:.1f}% of linear", flush=True)
    for count in rows:
        path = _rows(scratch, count)
        seconds, peak = _run(_WORKERS, 2, 0, path, f"{path}.out.jsonl")
        found["memory"].append({"rows": count, "seconds": seconds, "peak_bytes": peak})
        print(f"{count:,} rows on 2 workers that answer at once: {seconds:.0f} s, peak {peak / 2**20:.0f} MiB", flush=True)
    for count in (10 * each for each in rows):
        path = _rows(scratch, count)
        process([sys.executable, "-c", _JOB + _BEGUN, path, f"{path}.begun.jsonl", str(count)], environment())
        size = Path(f"{path}.begun.jsonl.journal").stat().st_size
        seconds, peak = _run(_RESUMED, path, f"{path}.begun.jsonl")
        found["resuming"].append({"rows": count, "journal_bytes": size, "seconds": seconds, "peak_bytes": peak})
        print(f"a journal of {count:,} rows ({size / 2**20:,.0f} MiB): {seconds:.1f} s until it goes on, peak {peak / 2**20:.0f} MiB")
    (out / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{out}/scale.json")


def _run(code: str, *arguments: object) -> tuple[float, int]:
    """The seconds that the code tells, and the peak memory of its process. The last argument is its output."""
    _, peak = process([sys.executable, "-c", _JOB + code, *map(str, arguments)], environment())
    return float(Path(f"{arguments[-1]}.seconds").read_text()), peak


def _rows(scratch: Path, count: int) -> str:
    path = scratch / f"{count}.jsonl"
    if not path.exists():
        with path.open("w") as file:
            file.writelines(f'{{"id": {number}, "prompt": "row number {number} of a long file"}}\n' for number in range(count))
    return str(path)
