"""Models from a hub: the real client against a small server that speaks the Hub's HTTP protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import pytest
from conftest import Process, Ran, serving
from tiny_gguf import write

COMMIT, OLDER = "a" * 40, "b" * 40
NAME = "org/tiny"
DATA, DATA_FILE = "org/data", "data/test.jsonl"
TOKEN = "hf_secretsecretsecretsecret"


@dataclass
class Hub:
    """What the server serves, how it misbehaves, and what it was asked."""

    revisions: dict[str, dict[str, bytes]]
    statuses: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""
    data: bytes = b"".join(json.dumps({"id": i, "prompt": f"the king {i}"}).encode() + b"\n" for i in range(7))

    def misbehave(self, part: str, *statuses: int, **headers: str) -> None:
        """The next requests whose path holds `part` get these statuses, one each."""
        self.statuses += [(part, status, {k.replace("_", "-"): v for k, v in headers.items()}) for status in statuses]


@pytest.fixture
def hub(llama: Path) -> Iterator[Hub]:
    files = {p.name: p.read_bytes() for p in llama.iterdir()}
    older = files | {"generation_config.json": json.dumps({"eos_token_id": 257, "bos_token_id": 256}).encode()}
    state = Hub({COMMIT: files, OLDER: older})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            self.send(*self.reply(), body=body)

        def reply(self) -> tuple[int, bytes, dict[str, str], bool]:
            path = unquote(urlsplit(self.path).path)
            state.asked.append(f"{self.command} {path}")
            for planned in state.statuses:
                if planned[0] in path:
                    state.statuses.remove(planned)
                    return planned[1], b"{}", planned[2], False
            if path.startswith(f"/api/models/{NAME}"):
                rest = path.removeprefix(f"/api/models/{NAME}").removeprefix("/revision/").removeprefix("/tree/")
                revision = rest or "main"
                commit = {"main": COMMIT, "v1": OLDER}.get(revision, revision)
                if commit not in state.revisions:
                    return 404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"}, False
                files = state.revisions[commit]
                if "/tree/" in path:
                    tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
                    return 200, json.dumps(tree).encode(), {}, False
                siblings = [{"rfilename": name} for name in files]
                return 200, json.dumps({"id": NAME, "sha": commit, "siblings": siblings}).encode(), {}, False
            if path.startswith(f"/{NAME}/resolve/"):
                revision, _, name = path.removeprefix(f"/{NAME}/resolve/").partition("/")
                commit = {"main": COMMIT, "v1": OLDER}.get(revision, revision)
                content = state.revisions.get(commit, {}).get(name)
                if content is None:
                    return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, False
                tag = hashlib.sha256(content).hexdigest()
                return 200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, name in state.cut
            if path.startswith((f"/api/datasets/{DATA}", f"/datasets/{DATA}")):
                return *self.dataset(path), False
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}, False

        def dataset(self, path: str) -> tuple[int, bytes, dict[str, str]]:
            """A data set of one file in a folder; parts of the file are served by range."""
            folder, name = DATA_FILE.split("/")
            rest = path.rpartition(f"/{COMMIT}")[2]
            if path.startswith("/api/") and "/tree/" not in path:
                return 200, json.dumps({"id": DATA, "sha": COMMIT, "siblings": [{"rfilename": DATA_FILE}], "tags": []}).encode(), {}
            if path.startswith("/api/"):
                whole = {"type": "file", "path": DATA_FILE, "size": len(state.data), "oid": "0" * 40}
                listed = [whole] if rest == f"/{folder}" else [{"type": "directory", "path": folder, "oid": "0" * 40}]
                return 200, json.dumps(listed if rest in ("", f"/{folder}") else []).encode(), {}
            if not path.endswith(f"/{name}"):
                return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            headers = {"ETag": f'"{hashlib.sha256(state.data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                end = min(int(last or len(state.data)), len(state.data) - 1)
                headers["Content-Range"] = f"bytes {first}-{end}/{len(state.data)}"
                return 206, state.data[int(first) : end + 1], headers
            return 200, state.data, headers

        def send(self, status: int, content: bytes, headers: dict[str, str], cut: bool, *, body: bool) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

    with serving(Handler) as state.endpoint:
        yield state


class Generate(Protocol):
    """Runs generate with the hub's endpoint and a cache of its own."""

    def __call__(self, reference: str = NAME, *options: object, **env: str) -> Ran: ...


@pytest.fixture
def generate(process: Process, hub: Hub, tmp_path: Path) -> Generate:
    """Runs generate with the hub's endpoint and a cache of its own."""

    def call(reference: str = NAME, *options: object, **env: str) -> Ran:
        environment = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": TOKEN,
            "no_proxy": "*",
        }
        arguments = ("generate", "-m", reference, "the king", "--max-new-tokens", "4", "--chat-template", "none", "--json", *options)
        ran = process(*arguments, env=environment | env)
        assert TOKEN not in ran.out + ran.err
        return ran

    return call


def test_a_model_is_downloaded_once_and_works_offline_afterwards(generate: Generate, hub: Hub) -> None:
    first = generate()
    assert first.code == 0
    downloaded = [line for line in hub.asked if line.startswith("GET") and "model.safetensors" in line]
    assert len(downloaded) == 1
    assert not any(line.endswith((".bin", ".py")) for line in hub.asked)
    assert generate().out == first.out
    assert len([line for line in hub.asked if line.startswith("GET") and "model.safetensors" in line]) == 1
    hub.asked.clear()
    for offline in (generate(NAME, "--offline"), generate(NAME, HF_HUB_OFFLINE="1")):
        assert offline.code == 0
        assert offline.out == first.out
    assert hub.asked == []


def test_the_cache_serves_when_the_hub_cannot_be_reached(generate: Generate, hub: Hub) -> None:
    first = generate()
    again = generate(HF_ENDPOINT="http://127.0.0.1:9")
    assert again.code == 0
    assert again.out == first.out


def test_a_pinned_revision_is_the_one_that_is_used(process: Process, generate: Generate, hub: Hub, tmp_path: Path) -> None:
    assert generate(f"{NAME}@v1").code == 0
    assert any(f"/{NAME}/resolve/{OLDER}/" in line for line in hub.asked)
    assert not any(f"/resolve/{COMMIT}/" in line for line in hub.asked)
    shown = process("models", "show", f"{NAME}@{OLDER}", "--json", env={"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.endpoint})
    assert json.loads(shown.out)["revision"] == OLDER
    listed = process("models", "--json", env={"HF_HOME": str(tmp_path / "cache")})
    assert {"model": NAME, "revision": OLDER}.items() <= next(r for r in json.loads(listed.out) if r["model"] == NAME).items()


def test_the_run_record_holds_the_commit(process: Process, generate: Generate, hub: Hub, tmp_path: Path) -> None:
    rows, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    rows.write_text("the king\n")
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    ran = process("generate", "-m", NAME, "-i", rows, "-o", out, "--max-new-tokens", "2", "--chat-template", "none", env=env)
    assert ran.code == 0
    record = Path(f"{out}.run.json").read_text()
    assert json.loads(record)["identity"]["model.revision"] == COMMIT
    assert TOKEN not in record


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (401, {"X_Error_Code": "GatedRepo"}, "gated"),
        (403, {"X_Error_Code": "GatedRepo"}, "gated"),
        (401, {}, "hf auth login"),
        (404, {"X_Error_Code": "RepoNotFound"}, "no model 'org/tiny'"),
    ],
)
def test_refusals_of_the_hub_are_one_line_and_a_hint(generate: Generate, hub: Hub, status: int, headers: dict[str, str], said: str) -> None:
    hub.misbehave("", *[status] * 50, **headers)
    ran = generate()
    assert ran.code == 5
    assert said in ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith(("error", "hint"))]) <= 2
    assert "Traceback" not in ran.err


def test_a_model_that_does_not_exist_is_said(generate: Generate) -> None:
    ran = generate("org/typo")
    assert ran.code == 5
    assert "no model 'org/typo'" in ran.err


def test_a_revision_that_does_not_exist_is_said(generate: Generate) -> None:
    ran = generate(f"{NAME}@v9")
    assert ran.code == 5
    assert "no revision 'v9'" in ran.err


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_troubles_of_the_hub_are_tried_again(generate: Generate, hub: Hub, status: int) -> None:
    hub.misbehave("model.safetensors", status)
    ran = generate()
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("status", [429, 502])
def test_lasting_troubles_of_the_hub_end_with_5(generate: Generate, hub: Hub, status: int) -> None:
    hub.misbehave("/api/", *[status] * 50)
    ran = generate()
    assert ran.code == 5
    assert f"status {status}" in ran.err


def test_a_download_that_breaks_off_is_never_used(generate: Generate, hub: Hub) -> None:
    hub.cut.add("model.safetensors")
    ran = generate()
    assert ran.code == 5
    assert "could not be downloaded" in ran.err
    hub.cut.clear()
    assert generate().code == 0


def test_no_network_and_no_cache_says_so(generate: Generate, tmp_path: Path) -> None:
    ran = generate(HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.code == 5
    assert "can't be reached and it is not in the cache" in ran.err
    offline = generate(NAME, "--offline")
    assert offline.code == 5
    assert "this run is offline" in offline.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_ENDPOINT", f"http://user:{TOKEN}@[::bad"), ("HF_ENDPOINT", "http://hub:port"), ("HF_ENDPOINT", "localhost"),
        ("HF_HUB_ETAG_TIMEOUT", "ten"), ("ALL_PROXY", f"ftp://user:{TOKEN}@127.0.0.1:1"),
    ],
)  # fmt: skip
def test_a_variable_that_the_hubs_client_can_not_use_is_named(generate: Generate, name: str, value: str) -> None:
    ran = generate(no_proxy="", **{name: value})
    assert (ran.code, ran.out) == (5, "")
    assert name in ran.err
    assert "bug" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [["generate", "x", "--engine", "torch"], ["models"], ["finetune", "{rows}", "-o", "{rows}.out"], ["generate", "-i", "org/data:test"]],
    ids=lambda arguments: str(arguments[:2]),
)
def test_no_command_takes_a_bad_address_of_the_hub_for_a_bug(process: Process, tmp_path: Path, arguments: list[str]) -> None:
    (rows := tmp_path / "rows.jsonl").write_text('{"text": "the king"}\n')
    ran = process(*(each.format(rows=rows) for each in arguments), env={"HF_ENDPOINT": "http://[::bad", "HF_HUB_OFFLINE": "0"})
    assert (ran.code, ran.out) == (5, ""), ran.err
    assert "HF_ENDPOINT" in ran.err


def test_a_model_with_only_pickles_is_refused_before_it_is_downloaded(generate: Generate, hub: Hub) -> None:
    files = hub.revisions[COMMIT]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    ran = generate()
    assert ran.code == 5
    assert "pytorch_model.bin" in ran.err
    assert not any("resolve" in line for line in hub.asked)


def test_a_flipped_bit_in_the_cache_is_found(generate: Generate, tmp_path: Path) -> None:
    assert generate().code == 0
    (path,) = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    blob = path.resolve()
    data = bytearray(blob.read_bytes())
    data[-5] ^= 4
    blob.chmod(0o644)
    blob.write_bytes(data)
    ran = generate()
    assert ran.code == 5
    assert "SHA-256" in ran.err


@pytest.mark.parametrize(
    ("reference", "code"), [("../../etc", 5), ("org/na\nme", 5), ("x" * 300, 2), ("x" * 4000, 2), ("org/../x", 5), ("a b", 5)]
)
def test_names_never_become_paths_outside_the_cache(generate: Generate, hub: Hub, reference: str, code: int) -> None:
    ran = generate(reference)
    assert ran.code == code
    assert "Traceback" not in ran.err
    assert hub.asked == []


def test_a_hub_data_set_is_read_row_by_row(process: Process, hub: Hub, llama: Path, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "no_proxy": "*"}
    out = tmp_path / "out.jsonl"
    arguments = ["generate", "-m", llama, "-i", f"{DATA}:test", "-o", out, "--max-new-tokens", "2", "--chat-template", "none"]
    ran = process(*arguments, env=env)
    assert ran.code == 0, ran.err
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == list(range(7))
    assert len(ran.err.splitlines()) == 1
    hub.data = hub.data.replace(b"king 3", b"queen 3")
    again = process(*arguments, "--limit", "5", env=env)
    assert again.code == 2


def test_a_hub_data_set_that_is_not_there_is_said(process: Process, hub: Hub, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "no_proxy": "*"}
    for name in ("org/nothing:test", f"{DATA}:nosplit"):
        ran = process("generate", "-i", name, env=env)
        assert ran.code == 5
        assert name in ran.err
    offline = process("generate", "-i", f"{DATA}:test", "--offline", env=env)
    assert offline.code == 5
    assert "offline" in offline.err


def test_a_gguf_file_of_a_repository_is_fetched_alone(process: Process, generate: Generate, hub: Hub, tmp_path: Path) -> None:
    hub.revisions[OLDER] = {
        "q/tiny.Q8_0.gguf": write(tmp_path / "tiny.gguf", "Q8_0").read_bytes(),
        "model.safetensors": b"",
        "x.json": b"{}",
    }
    reference = f"{NAME}/q/tiny.Q8_0.gguf@v1"
    first = generate(reference)
    assert first.code == 0, first.err
    assert {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line} == {"tiny.Q8_0.gguf"}
    assert generate(reference, "--offline").out == first.out
    env = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.endpoint}
    shown = json.loads(process("models", "show", reference, "--json", env=env).out)
    assert (shown["revision"], shown["weights_dtype"]) == (OLDER, "Q8_0, F32")
    missing = generate(f"{NAME}/missing.gguf")
    assert (missing.code, f"{NAME} has no file of the name" in missing.err) == (5, True)


def test_a_repository_of_gguf_files_alone_is_answered_with_one_of_them(generate: Generate, hub: Hub) -> None:
    hub.revisions[COMMIT] = {"tiny.Q4_K_M.gguf": b"", "README.md": b""}
    ran = generate()
    assert (ran.code, f"name a file: {NAME}/tiny.Q4_K_M.gguf" in ran.err) == (5, True), ran.err
