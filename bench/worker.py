"""One peer in a process of its own: gets ready for jobs that differ in their texts, then does one for each line that it reads.

python -m bench.worker PEER TASK < lines: the jobs as JSON, then the number of one for each time. Each is done once more before its first
time, as a warm-up. Lines of JSON come back.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import asdict

from bench.peers import Job


def peak_bytes() -> int:
    """The most memory this process has held. Linux's VmHWM begins with the program; getrusage's number with what its parent held."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not the answer
    peer, task = sys.argv[1:]
    jobs = [Job(**each) for each in json.loads(sys.stdin.readline())]
    work = importlib.import_module(f"bench.peers.{peer}").TASKS[task](jobs[0])
    warm = set(range(len(jobs))) if task == "train" else set()  # whose first step does not count
    if not warm:
        work(jobs[0])
        warm.add(0)
    told.write("{}\n")
    for line in sys.stdin:
        number = int(line)
        if number not in warm:
            work(jobs[number])
            warm.add(number)
        begun = time.perf_counter()
        done = asdict(work(jobs[number]))
        done["seconds"] = done["seconds"] or time.perf_counter() - begun
        done["peak"] = peak_bytes()
        told.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
