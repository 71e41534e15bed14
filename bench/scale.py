"""What more workers and more rows cost: on workers that take a given time per batch, on long journals, and on servers with a limit.

Scaling: batches per second on 1, 2, 4 and 8 workers on Ray, whose batches take a second each, as a share of what as many workers could
do at most: until the last answer, and until the last batch was sent, which leaves out the end, where workers run out of work. The same
on many workers that this process only imagines, whose batches take from half a second to one and a half: what planning and writing alone
allow. Memory: of the process that plans and writes, whose workers answer at once. Resuming: a run of ten times as many rows that was
ended shortly before its last, until the first batch is asked for again. Servers: answers a second from one that takes a tenth of a second
for each, as a share of the requests that it admits, from the first of them to the last.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.running import ROOT, environment, process

#: What the code below shares: a task that takes some seconds for a batch, and a job with it.
_JOB = """
import json, sys, time
from llmkit.cli.console import Console
from llmkit.errors import TimeUpError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.jobs.output import Output
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
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

def tell(*seconds):
    with open(sys.argv[-1] + ".seconds", "w") as file:
        json.dump(seconds, file)

def job(task, path, out, **settings):
    with Output(out, overwrite=True) as output:
        return file_job(open_rows(path), task, JobSettings(**settings), output, Console(True), RunName("generate"))
"""
#: Watches a crew, and tells of its job: seconds until the last answer, the workers' share until the last batch was sent, and this process's
#: own seconds per batch.
_WATCHED = """
from llmkit.jobs.outcome import Answer
from llmkit.jobs.workers import Arrived

def watched(workers, count, seconds, task):
    sent, back, events, send = [], [], workers.events, workers.send
    def sending(parcel):
        sent.append(time.monotonic())
        send(parcel)
    def arriving(timeout):
        happened = events(timeout)
        back.extend(time.monotonic() for event in happened if isinstance(event, Arrived))
        return happened
    workers.send, workers.events = sending, arriving
    own = time.process_time()
    took = job(task, path, out, batch_size=64, crew=workers).seconds
    own = time.process_time() - own
    first, last = back[count - 1], sent[-1]
    steady = sum(first < at <= last for at in back) * seconds / count / (last - first) if last > first else 0.0
    tell(took, steady, own / len(back))

count, seconds, path, out = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
"""
_WORKERS = """
from llmkit.jobs.ray import crew
from llmkit.jobs.workers import WorkerSettings

with crew(WorkerSettings(count, cpus=0.01), [], Console(True)) as workers:
    while workers.ready < count:
        workers.events(1.0)
    watched(workers, count, seconds, Echo(seconds))
"""
_IMAGINED = """
from heapq import heappop, heappush
from llmkit.jobs.worker import Back

class Imagined:
    working = ""
    def __init__(self):
        self.most, self.out, self.free_at = 2 * count, [], [0.0] * count
        self.held, self.number = [0] * count, 0
    def begin(self, task):
        pass
    def free(self):
        return len(self.out) < self.most
    def send(self, parcel):
        worker = self.held.index(min(self.held))
        self.held[worker] += 1
        self.number += 1
        begun = max(time.monotonic(), self.free_at[worker])
        self.free_at[worker] = begun + (0.5 + self.number * 0.618034 % 1) * seconds
        heappush(self.out, (self.free_at[worker], self.number, worker, parcel))
    def events(self, timeout):
        if not self.out:
            return []
        time.sleep(max(0.0, min(timeout, self.out[0][0] - time.monotonic())))
        happened = []
        while self.out and self.out[0][0] <= time.monotonic():
            _, _, worker, parcel = heappop(self.out)
            self.held[worker] -= 1
            happened.append(Arrived(parcel, Back([Answer({"text": work.payload}, None, 1, 1) for work in parcel.batch])))
        return happened
    def drop(self):
        self.out.clear()

watched(Imagined(), count, seconds, Echo(0))
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
            mark = marks.Mark(window + 1, place, at, chain.state, 0.16 * marks.EVERY, tally)
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
    found: dict[str, list[dict[str, float]]] = {"workers": [], "imagined workers": [], "memory": [], "resuming": [], "servers": []}
    for rate, burst in ((20, 1), (20, 5), (50, 5)):
        found["servers"].append(_limited(rate, burst, scratch, seconds=20 if quick else 60))
    each = 8 if quick else 30
    for kind, code, counts in (("", _WORKERS, (1, 2, 4, 8)), ("imagined ", _IMAGINED, (8, 32, 64))):
        for count in counts:
            path = _rows(scratch, 64 * each * count)
            (seconds, steady, own), _ = _run(_WATCHED + code, count, 1.0, path, f"{path}.out.jsonl")
            measured = {"workers": count, "seconds": seconds, "of_linear": each / seconds, "steady": steady, "own_seconds_a_batch": own}
            found[f"{kind}workers"].append(measured)
            print(
                f"{count} {kind}workers: {each * count} batches of 1 s in {seconds:.2f} s, {100 * each / seconds:.1f}% of linear; "
                f"{100 * steady:.1f}% until the last was sent; {1000 * own:.1f} ms of this process per batch",
                flush=True,
            )
    for count in rows:
        path = _rows(scratch, count)
        (seconds, _, own), peak = _run(_WATCHED + _WORKERS, 2, 0, path, f"{path}.out.jsonl")
        found["memory"].append({"rows": count, "seconds": seconds, "peak_bytes": peak, "own_seconds_a_batch": own})
        print(f"{count:,} rows on 2 workers that answer at once: {seconds:.0f} s, peak {peak / 2**20:.0f} MiB", flush=True)
    for count in (10 * each for each in rows):
        path = _rows(scratch, count)
        process([sys.executable, "-c", _JOB + _BEGUN, path, f"{path}.begun.jsonl", str(count)], environment())
        size = Path(f"{path}.begun.jsonl.journal").stat().st_size
        (seconds,), peak = _run(_RESUMED, path, f"{path}.begun.jsonl")
        found["resuming"].append({"rows": count, "journal_bytes": size, "seconds": seconds, "peak_bytes": peak})
        print(f"a journal of {count:,} rows ({size / 2**20:,.0f} MiB): {seconds:.1f} s until it goes on, peak {peak / 2**20:.0f} MiB")
    (out / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{out}/scale.json")


def _limited(rate: int, burst: int, scratch: Path, *, seconds: int) -> dict[str, float]:
    """Asks a server that admits so many requests a second, of which `burst` may come at once, for about so many seconds."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.limited", str(rate), str(burst), "0.1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT,
    )  # fmt: skip
    assert server.stdout is not None
    base, rows = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1", _rows(scratch, rate * seconds)
    command = ["generate", "-i", rows, "-o", f"{rows}.answers.jsonl", "--overwrite", "-m", "openai:tiny", "--api-base", base]
    process([sys.executable, "-m", "llmkit", *command], environment())
    told: dict[str, float] = json.loads(server.communicate()[0])
    share = (told["admitted"] - 1) / told["seconds"] / rate
    print(f"{rate} requests a second admitted, {burst} at once: {100 * share:.1f}% used, {told['refused']:.0f} refused", flush=True)
    return {"rate": rate, "burst": burst, "used": share, **told}


def _run(code: str, *arguments: object) -> tuple[list[float], int]:
    """What the code tells, and the peak memory of its process. The last argument is its output."""
    peak = process([sys.executable, "-c", _JOB + code, *map(str, arguments)], environment()).peak
    return json.loads(Path(f"{arguments[-1]}.seconds").read_text()), peak


def _rows(scratch: Path, count: int) -> str:
    path = scratch / f"{count}.jsonl"
    if not path.exists():
        with path.open("w") as file:
            file.writelines(f'{{"id": {number}, "prompt": "row number {number} of a long file"}}\n' for number in range(count))
    return str(path)
