"""One peer in a process of its own: gets ready, does the job once as a warm-up, then once for each line that it reads.

python -m bench.worker PEER TASK < lines: the job as JSON, then any line for each time. Lines of JSON come back.
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
    work = importlib.import_module(f"bench.peers.{peer}").TASKS[task](Job(**json.loads(sys.stdin.readline())))
    if task != "train":  # whose first step does not count
        work()
    told.write("{}\n")
    for _ in sys.stdin:
        begun = time.perf_counter()
        done = asdict(work())
        done["seconds"] = done["seconds"] or time.perf_counter() - begun
        done["peak"] = peak_bytes()
        told.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
