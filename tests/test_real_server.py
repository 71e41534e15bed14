"""`transformers serve`, a real server of the protocol, answers as the model does here."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, STORIES, Run, read_rows, until, write_rows

from llmkit.models import builtin


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of builtin:stories."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path_factory.mktemp("server") / "log").open("w+") as log:
        command += ["--device", "cpu", "--dtype", "float32"]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

        def ready() -> bool:
            try:
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200)
            except (urllib.error.URLError, OSError):
                return False

        try:
            if not until(ready, running):
                log.seek(0)
                pytest.fail(log.read())
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            running.kill()
            running.wait(PATIENCE)


def test_greedy_answers_of_a_file_are_those_of_the_model_here(run: Run, tmp_path: Path, base: str, ragged: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": text} for text in ragged[:8]])
    arguments = ["generate", "-i", rows, "--max-new-tokens", "12", "--chat-template", "none"]
    here = run(*arguments, "-o", tmp_path / "here.jsonl", "-m", STORIES, "--engine", "torch")
    assert here.code == 0, here.err
    model = f"openai:{builtin.folder('stories')}"
    there = run(*arguments, "-o", tmp_path / "there.jsonl", "-m", model, "--api-base", base, "--concurrency", "2")
    assert there.code == 0, there.err
    assert [row["text"] for row in read_rows(tmp_path / "there.jsonl")] == [row["text"] for row in read_rows(tmp_path / "here.jsonl")]


def test_one_prompt_is_streamed(run: Run, base: str) -> None:
    arguments = ["generate", "Once upon a time", "--max-new-tokens", "12", "--chat-template", "none"]
    there = run(*arguments, "-m", f"openai:{builtin.folder('stories')}", "--api-base", base)
    assert there.code == 0, there.err
    assert there.out == run(*arguments, "-m", STORIES, "--engine", "torch").out


def test_texts_are_not_scored_by_a_server_that_echoes_nothing(run: Run, tmp_path: Path, base: str) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "the king lived"}])
    ran = run("evaluate", "perplexity", "-i", rows, "-m", f"openai:{builtin.folder('stories')}", "--api-base", base)
    assert ran.code == 5
    assert "no log-probabilities of given texts" in ran.err
