"""Lines of OpenAI's batch files are read as rows, and answers are written as such lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Run, read_rows, write_rows
from servers import FakeServer, prompt_of, said

from llmkit.engines.decoding import Decoding
from llmkit.engines.openai.protocol import seed_of


def seed(number: int) -> int:
    return seed_of(Decoding(), number, 0)


def asked(text: str) -> str:
    """The conversation that a prompt is, as the server's model reads it."""
    return f"user: {text}"


def test_lines_of_an_openai_batch_can_be_written(run: Run, tmp_path: Path, at: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"custom_id": "a-1", "prompt": "one"}, {"prompt": 5}, {"id": 9, "prompt": "two"}])
    out = tmp_path / "out.jsonl"
    assert run("generate", "-i", rows, "-o", out, *at, "--output-format", "openai-batch").code == 3
    first, failed, third = read_rows(out)
    assert (first["custom_id"], failed["custom_id"], third["custom_id"]) == ("a-1", "2", "9")
    body = first["response"]["body"]
    assert first["response"]["status_code"] == 200
    assert body["choices"][0]["message"] == {"role": "assistant", "content": said(asked("one"), seed(0))}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 8, "total_tokens": 10}
    assert body["model"] == "openai:tiny"
    assert first["error"] is None
    assert failed["response"] is None
    assert re.search("text expected", failed["error"]["message"])


def test_a_line_of_a_batch_for_plain_completions_is_asked_there(run: Run, tmp_path: Path, server: FakeServer, at: list[object]) -> None:
    plain = {"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "one"}}
    chat = {"custom_id": "b", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "two"}]}}
    rows, out = write_rows(tmp_path / "in.jsonl", [plain, chat]), tmp_path / "out.jsonl"
    arguments = ["generate", "-i", rows, *at, "--concurrency", "1", "--output-format", "openai-batch"]
    assert run(*arguments, "-o", out).code == 0
    assert {path: prompt_of(body) for path, body in zip(server.paths, server.bodies, strict=True)} == {
        "/v1/completions": "one", "/v1/chat/completions": asked("two"),
    }  # fmt: skip
    first, second = (line["response"]["body"]["choices"][0] for line in read_rows(out))
    assert first["text"] == said("one", seed(0))
    assert second["message"]["content"] == said(asked("two"), seed(1))
    ran = run(*arguments, "--system", "Be brief.")  # which a plain completion can't be told
    assert ran.code == 3
    assert "no place for `system`" in json.loads(ran.out.splitlines()[0])["error"]["message"]


@pytest.mark.parametrize(
    ("rows", "name"),
    [([{"custom_id": "a"}, {}, {"custom_id": "a"}], "a"), ([{"id": 3}, {}, {}], "3"), ([{"id": 1}, {}, {"custom_id": 1}], "1")],
)
def test_lines_of_a_batch_that_could_not_be_told_apart_are_refused(
    run: Run, tmp_path: Path, server: FakeServer, at: list[object], rows: list[dict[str, object]], name: str
) -> None:
    path = write_rows(tmp_path / "in.jsonl", [{**row, "prompt": "x"} for row in rows])
    arguments = ["generate", "-i", path, *at, "-o", tmp_path / "out.jsonl"]
    refused = run(*arguments, "--output-format", "openai-batch")
    assert refused.code == 2
    assert f"in.jsonl, line 3: the custom_id '{name}' is also that of line 1" in refused.err
    assert not server.bodies
    assert run(*arguments, "--restart").code == 0  # rows keep their order, and their fields
