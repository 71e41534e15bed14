"""`llmkit push`: the real client against a small server that speaks the hub's HTTP protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from conftest import Process, Ran, Run, serving, write_rows

TOKEN = "hf_secretsecretsecretsecret"


@dataclass
class Hub:
    """What was made and received. refuses: the status of every answer, if any; silent: connections end without one."""

    endpoint: str = ""
    refuses: int | None = None
    silent: bool = False
    made: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send({"id": "me/mine", "sha": "a" * 40, "siblings": [], "type": "user", "name": "me"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if state.silent:
                self.close_connection = True
            elif state.refuses is not None:
                self.send({"error": "no"}, state.refuses)
            elif self.path == "/api/repos/create":
                state.made.append(json.loads(body))
                self.send({"url": f"{state.endpoint}/me/mine", "name": "me/mine"})
            elif self.path == "/api/validate-yaml":  # of the card
                self.send({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
                self.send({"files": files})
            else:
                for entry in map(json.loads, body.splitlines()):
                    if entry["key"] == "file":
                        state.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                self.send({"success": True, "commitOid": "a" * 40, "commitUrl": f"{state.endpoint}/me/mine/commit/{'a' * 40}"})

        def send(self, content: dict[str, Any], status: int = 200) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as state.endpoint:
        yield state


@pytest.fixture
def adapter(run: Run, tmp_path: Path, gpt2: Path) -> Path:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}] * 2)
    assert run("finetune", rows, "-m", gpt2, "-o", tmp_path / "ad", "--max-steps", "1", "--lora-r", "4").code == 0
    return tmp_path / "ad"


def push(process: Process, hub: Hub, tmp_path: Path, *arguments: object) -> Ran:
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "no_proxy": "*"}
    ran = process("push", *arguments, env=env)
    assert TOKEN not in ran.out + ran.err
    return ran


def test_the_files_of_the_record_are_put_on_the_hub_and_nothing_else(process: Process, hub: Hub, tmp_path: Path, adapter: Path) -> None:
    (adapter / "notes.txt").write_text("mine alone")
    done = push(process, hub, tmp_path, adapter, "me/mine", "--private", "--json")
    assert done.code == 0, done.err
    listed = json.loads((adapter / "run.json").read_text())["result"]["files"]
    assert hub.files.keys() == {*listed, "run.json"}
    assert all(content == (adapter / name).read_bytes() for name, content in hub.files.items())
    assert hub.made == [{"name": "mine", "organization": "me", "visibility": "private"}]
    assert json.loads(done.out)["url"].endswith("a" * 40)


def test_what_is_no_finished_result_is_refused_before_the_hub_is_asked(process: Process, hub: Hub, tmp_path: Path, adapter: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no finished result" in push(process, hub, tmp_path, tmp_path / "empty", "me/mine").err
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    changed = push(process, hub, tmp_path, adapter, "me/mine")
    assert changed.code == 2
    assert "has changed since it was written" in changed.err
    for name in ("not a name", "me/a..b"):
        assert push(process, hub, tmp_path, adapter, name).code == 2
    assert hub.made == []


def test_a_hub_that_refuses_is_said_with_what_to_do(process: Process, hub: Hub, tmp_path: Path, adapter: Path) -> None:
    hub.refuses = 403
    done = push(process, hub, tmp_path, adapter, "me/mine")
    assert done.code == 5
    assert "hf auth login" in done.err


def test_a_hub_that_breaks_off_is_said(process: Process, hub: Hub, tmp_path: Path, adapter: Path) -> None:
    hub.silent = True
    done = push(process, hub, tmp_path, adapter, "me/mine")
    assert done.code == 5, done.err
    assert "can't be reached" in done.err


def test_a_token_that_can_not_be_sent_is_said(run: Run, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ab\u200bcd")
    done = run("push", adapter, "me/mine")
    assert (done.code, "HF_TOKEN contains a character" in done.err, "hf_ab" in done.err) == (5, True, False)


def test_offline_nothing_is_pushed(run: Run, adapter: Path) -> None:
    done = run("push", adapter, "me/mine")
    assert done.code == 5
    assert "offline" in done.err
