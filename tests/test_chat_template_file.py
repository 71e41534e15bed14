"""A chat template in a file: read once, before rows and weights, and told by its own name when it can't be read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from conftest import Run, write_rows

from llmkit.engines.chat import ChatSettings

ROWS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "question": "?", "choices": ["a", "b"]}
]
COMMANDS = {
    "generate": ["generate", "-i", "ROWS", "-o", "OUT", "-m"],
    "one prompt": ["generate", "Hi", "-m"],
    "score": ["evaluate", "score", "-i", "ROWS", "-o", "OUT", "-m"],
    "choice": ["evaluate", "choice", "-i", "ROWS", "-o", "OUT", "-m"],
    "perplexity": ["evaluate", "perplexity", "-i", "ROWS", "-o", "OUT", "--completion-only", "-m"],
    "translate": ["translate", "-i", "ROWS", "-o", "OUT", "--from", "en", "--to", "fr", "-m"],
    "finetune": ["finetune", "ROWS", "-o", "OUT", "-m"],
    "dry run": ["finetune", "ROWS", "--dry-run", "-m"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_template_that_can_not_be_read_is_told_by_its_name_before_a_model_is_looked_for(run: Run, tmp_path: Path, command: str) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    arguments = [{"ROWS": rows, "OUT": tmp_path / "out"}.get(part, part) for part in COMMANDS[command]]
    missing = tmp_path / "chat.jinja"
    done = run(*arguments, tmp_path / "no-model", "--chat-template", missing)
    assert done.code == 2, done.err
    assert f"{missing}: the chat template cannot be read: No such file or directory" in done.err
    assert "hint: --chat-template auto, none, or a file" in done.err
    assert sorted(tmp_path.iterdir()) == [rows]


@pytest.mark.parametrize(
    ("content", "why"), [(None, "Is a directory"), (b"\xff\xfe{", "can't decode byte 0xff"), (b" " * 1_000_001, "1,000,000")]
)
def test_what_is_no_template_file_is_refused(run: Run, tmp_path: Path, content: bytes | None, why: str) -> None:
    template = tmp_path / "chat.jinja"
    template.mkdir() if content is None else template.write_bytes(content)
    done = run("generate", "Hi", "-m", tmp_path / "no-model", "--chat-template", template)
    assert done.code == 2
    assert f"{template}: the chat template cannot be read" in done.err
    assert why in done.err


def test_a_template_may_come_through_a_pipe(run: Run, tmp_path: Path, llama: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    reading, writing = os.pipe()
    os.write(writing, template.encode())
    os.close(writing)
    done = run("finetune", rows, "-m", llama, "--chat-template", f"/dev/fd/{reading}", "--dry-run", "-q")
    os.close(reading)
    assert done.code == 0, done.err
    assert "<user>Hi</s><assistant>«Hello</s>»" in done.out


def test_settings_that_are_sent_to_another_machine_hold_the_text_of_the_file(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages[0].content }}")
    sent = pickle.dumps(ChatSettings(str(template), values={"depth": 1}))
    template.unlink()
    assert pickle.loads(sent).source(None) == "{{ messages[0].content }}"
