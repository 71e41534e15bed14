"""vLLM, a server that people use, answers as the model does here, and a job outlives its death.

By hand: `scripts/servers/vllm.sh` installs vLLM and runs these tests. VLLM_PYTHON is the Python that has vLLM; REAL_MODEL the folder of
a model that both know.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, read_rows, start, until, write_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="VLLM_PYTHON names no Python with vLLM"),
]
MODEL = os.environ.get("REAL_MODEL", "")
#: Positions that the server has room for.
CONTEXT = 1024
REQUESTS = 2000
#: Seconds that the server may take to start, and a job to end.
_PATIENCE = 1800


class Server:
    """vLLM with MODEL at one address, which can be killed and started again."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        self.start()

    @property
    def reference(self) -> list[object]:
        return ["-m", f"openai:{MODEL}", "--api-base", f"http://127.0.0.1:{self.port}/v1"]

    def start(self) -> None:
        command = [os.environ["VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL, "--dtype", "float32"]
        command += ["--max-model-len", str(CONTEXT), "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(self.log.read_text()[-4000:])
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=1)

    def kill(self) -> None:
        os.killpg(self.process.pid, 9)
        self.process.wait(_PATIENCE)

    def _ready(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("vllm") / "log")
    yield running
    running.kill()


@pytest.mark.parametrize("template", ["auto", "none"])
def test_greedy_answers_are_those_of_the_torch_engine(run: Run, tmp_path: Path, server: Server, template: str) -> None:
    questions = ["What is the capital of France?", "Name three colors.", "Why is the sky blue?", "Write a haiku about the sea.", "2 + 2 ="]
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": text} for text in questions])
    arguments = ["generate", "-i", rows, "--max-new-tokens", "24", "--chat-template", template]
    here = run(*arguments, "-o", tmp_path / "here.jsonl", "-m", MODEL, "--engine", "torch", "--dtype", "float32")
    assert here.code == 0, here.err
    there = run(*arguments, "-o", tmp_path / "there.jsonl", *server.reference)
    assert there.code == 0, there.err
    assert [row["text"] for row in read_rows(tmp_path / "there.jsonl")] == [row["text"] for row in read_rows(tmp_path / "here.jsonl")]


def test_perplexity_is_that_of_the_torch_engine(run: Run, tmp_path: Path, server: Server) -> None:
    """The texts spell the BOS out: this server's tokenizer begins a text without one, and its first token then has no score."""
    begin = json.loads((Path(MODEL) / "tokenizer_config.json").read_text())["bos_token"]
    texts = ["The king lived in an old house by the sea.", "It was a bright cold day in April, and the clocks were striking."]
    rows = write_rows(tmp_path / "in.jsonl", [{"text": begin + text * 4} for text in texts])
    arguments = ["evaluate", "perplexity", "-i", rows, "--json"]
    here = json.loads(run(*arguments, "-m", MODEL, "--dtype", "float32", "--context", str(CONTEXT)).out)["scores"]
    there = run(*arguments, *server.reference)
    assert there.code == 0, there.err
    found = json.loads(there.out)["scores"]
    print("token perplexity, here and there:", here["token_perplexity"], found["token_perplexity"])
    assert found["token_perplexity"] == pytest.approx(here["token_perplexity"], rel=1e-3)


def test_a_job_outlives_a_server_that_is_killed_and_started_again(tmp_path: Path, server: Server) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "prompt": f"Count from {i} to {i + 9}: {i},"} for i in range(REQUESTS)])
    output, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    arguments = ["generate", "-i", rows, "-o", output, "--max-new-tokens", "4", "--chat-template", "none", "--concurrency", "32"]
    job = start(*arguments, *server.reference)
    assert until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > REQUESTS // 4, job)
    server.kill()
    server.start()
    _, said = job.communicate(timeout=_PATIENCE)
    print(said.decode())
    assert job.returncode == 0
    answered = read_rows(output)
    assert [row["id"] for row in answered] == list(range(REQUESTS))
    assert not any("error" in row for row in answered)
