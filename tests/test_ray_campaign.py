"""A long run on a Ray cluster in which everything dies: workers all the time, a node, and the driver twice. Byte for byte one process's."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from conftest import Run, finish, kill, start, until, write_rows

ROWS, WORKERS = 20_000, 3
#: Seconds for a part of the run, where cores are few and shared.
_PATIENCE = 1200


@contextmanager
def dying_workers(seconds: float) -> Iterator[list[int]]:
    """Kills one of this test's workers every so many seconds, while another one answers, too. Gives the ids of those that were killed."""
    killed: list[int] = []
    ended, chosen = threading.Event(), random.Random(7)

    def walk() -> None:
        while not ended.wait(seconds):
            busy = [child for child in psutil.Process().children(recursive=True) if _answers(child)]
            if len(busy) > 1:
                victim = chosen.choice(busy)
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    killed.append(victim.pid)

    thread = threading.Thread(target=walk, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join(_PATIENCE)


def _answers(process: psutil.Process) -> bool:
    try:
        return "ray::Worker.answer" in " ".join(process.cmdline())
    except psutil.Error:
        return False


class Journaled:
    """Rows in the journal of an output, read as it grows: whoever looks all the time must not read all of it each time."""

    def __init__(self, out: Path) -> None:
        self._path = out.with_name(out.name + ".journal")
        self._at = self._rows = 0

    @property
    def rows(self) -> int:
        """Of complete lines; 0 without a journal."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._at)
            complete = file.read().rpartition(b"\n")[0]
            if complete:
                self._at += len(complete) + 1
                self._rows += sum(len(json.loads(line[9:]).get("rows", ())) for line in complete.split(b"\n"))
        return self._rows


@pytest.mark.slow
def test_twenty_thousand_rows_are_those_of_one_process_though_workers_a_node_and_the_driver_die(
    run: Run, tmp_path: Path, ragged: list[str]
) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "prompt": f"{ragged[i % 24]} {i}"} for i in range(ROWS)])
    one, out = tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    # an engine that starts in a second: one of torch would be killed before it has answered anything
    arguments = ["generate", "-i", rows, "--max-new-tokens", "4", "--engine", "ctranslate2"]
    assert run(*arguments, "-o", one).code == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    done = Journaled(out)
    on_ray = [*arguments, "-o", out, "--workers", str(WORKERS), "--ray", cluster.address]

    def running_until(count: int) -> subprocess.Popen[bytes]:
        running = start(*on_ray)
        assert until(lambda: done.rows >= count, running, patience=_PATIENCE)
        return running

    with dying_workers(2.0) as killed:
        assert kill(running_until(4_000))
        first = done.rows
        running = running_until(first + 2_000)
        cluster.remove_node(second, allow_graceful=False)
        assert until(lambda: done.rows >= first + 6_000, running, patience=_PATIENCE)
        assert kill(running)
        before = done.rows
        ran = finish(start(*on_ray), patience=_PATIENCE)
    cluster.shutdown()
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert out.read_bytes() == one.read_bytes()
    assert f"{ROWS:,} rows ({before:,} from before)" in ran.err
    workers = json.loads(out.with_name(out.name + ".run.json").read_text())["result"]["workers"]
    died, again = workers["died"], workers["sent_again"]
    sys.stdout.write(f"\n{len(killed)} workers killed; in the last part {died} died, which had {again} batches\n")
    assert len(killed) >= 10
    assert 0 < again <= 2 * died
