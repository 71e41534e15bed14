"""Tiny real models, made once a session, and ways to run the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import servers
from forking import forking_llmkit
from hypothesis import settings

if TYPE_CHECKING:
    from llmkit.engines.base import Request
    from llmkit.engines.torch.engine import TorchEngine

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Nothing here may reach a network, whatever the environment says; the hub tests talk to a server of their own.
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [n for n in os.environ if n.startswith(("LLMKIT_", "OPENAI_"))]:
    del os.environ[name]
# Models of one session's tests are kept apart from those of the person who runs them.
_CACHE = tempfile.TemporaryDirectory(prefix="llmkit-tests-")
os.environ["LLMKIT_HOME"] = _CACHE.name
os.environ["HF_HOME"] = os.path.join(_CACHE.name, "hub")

# Hundreds of processes are started, each faster with the modules compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests run side by side: a worker and the processes that it starts compute with one thread each, and with as many where one runs alone.
os.environ["OMP_NUM_THREADS"] = "1"
# ... and a thread that waits gives its core to the other worker instead of turning on the spot
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

STORIES = "builtin:stories"
#: Seconds that one step of a test may take on a slow machine before it counts as standing still.
PATIENCE = 240


@dataclass(frozen=True)
class Ran:
    """What a run of llmkit left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """Runs the command line with these arguments."""

    def __call__(self, *arguments: object) -> Ran: ...


class Running(Protocol):
    """A running command line: what the tests use of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def send_signal(self, sig: int, /) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def communicate(self, *, timeout: float | None = None) -> tuple[bytes, bytes]: ...


class Process(Protocol):
    """Runs the command line in a process of its own."""

    def __call__(
        self,
        *arguments: object,
        stdin: bytes | None = None,
        env: dict[str, str] | None = None,
        preexec_fn: Callable[[], None] | None = None,
    ) -> Ran: ...


#: Makes a copy of a model folder that a test may damage.
Copy = Callable[[Path], Path]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: for all that is not about stdin, signals, limits or the environment of a process."""
    from llmkit.cli import app

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        before = dict(os.environ)
        try:
            code = app.run([str(a) for a in arguments])
        finally:  # --offline holds for a process, which here is that of all tests
            os.environ.clear()
            os.environ.update(before)
        sys.stdout.flush()
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def process() -> Process:
    def call(
        *arguments: object, stdin: bytes | None = None, env: dict[str, str] | None = None, preexec_fn: Callable[[], None] | None = None
    ) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "llmkit", *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**os.environ, **(env or {})},
            preexec_fn=preexec_fn,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


def start(*arguments: object, preexec_fn: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    """Starts the command line in a process of its own."""
    command = [sys.executable, "-m", "llmkit", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, preexec_fn=preexec_fn)


def until(condition: Callable[[], bool], running: Running, *, patience: float = PATIENCE) -> bool:
    """Waits until a state of the disk holds (True) or the process ends (False); fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            running.kill()
            pytest.fail(f"after {patience} s the state that was waited for is not there; stderr: {finish(running).err}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=0.001)
            return condition()
    return True


def finish(running: Running, *, patience: float = PATIENCE) -> Ran:
    """Waits for the end of the process and returns what it left; fails after `patience` seconds."""
    try:
        out, err = running.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        running.kill()
        out, err = running.communicate()
        pytest.fail(f"the process has not ended after {patience} s; stderr: {err.decode()}")
    return Ran(running.wait(), out.decode(), err.decode())


def kill(running: Running) -> bool:
    """Kills the process; whether it was still running."""
    running.kill()
    return finish(running).code == -signal.SIGKILL


@contextlib.contextmanager
def stopped(running: Running) -> Iterator[None]:
    """Inside the block the process stands still, with all that it holds; behind it, it is killed."""
    running.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        kill(running)


#: Seconds of processor time that a linear reader of hostile input may take; one or two are usual, and a quadratic one takes minutes.
_LINEAR = 10


@pytest.fixture
def limited_time() -> Iterator[None]:
    """Ends a test that computes for longer than reading in linear time takes."""

    def end(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"takes more than {_LINEAR} s of processor time")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, _LINEAR)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.fixture(scope="session")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PATH for scripts on which `llmkit` forks a process that has the libraries imported."""
    folder = tmp_path_factory.mktemp("bin")
    with forking_llmkit(folder):
        yield os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on this machine that answers by `handler` until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def words() -> list[str]:
    return ["the", "king", "and", "queen", "lived", "in", "a", "small", "old", "house", "by", "sea", "with", "three", "children"]


@pytest.fixture(scope="session")
def ragged(words: list[str]) -> list[str]:
    """24 prompts of 1 to 40 words."""
    return [" ".join(words[(i * 7 + j * j) % len(words)] for j in range(1 + (i * 11) % 40)) for i in range(24)]


@pytest.fixture
def prompts(tmp_path: Path, ragged: list[str]) -> Path:
    return write_rows(tmp_path / "prompts.jsonl", [{"id": i, "prompt": text} for i, text in enumerate(ragged)])


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 (absolute positions, one token for BOS and EOS, no pad) with random weights and a byte-level tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = byte_tokenizer(["<|endoftext|>"], bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    seeded(
        lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=256, eos_token_id=256)
        ),
        folder,
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama (rotary positions) with a chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = byte_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>", add_bos="<s>")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    seeded(lambda: LlamaForCausalLM(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 encoder-decoder."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    tokenizer = byte_tokenizer(["</s>", "<pad>"], eos_token="</s>", pad_token="<pad>", add_eos="</s>")
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, pad_token_id=257, eos_token_id=256,
        decoder_start_token_id=257, initializer_factor=1.0,
    )  # fmt: skip
    seeded(lambda: T5ForConditionalGeneration(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(special: list[str], add_bos: str | None = None, add_eos: str | None = None, **names: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    edge = add_bos or add_eos
    if edge:
        single = f"{edge} $A" if add_bos else f"$A {edge}"
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(edge, tokenizer.token_to_id(edge))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def seeded(build: Callable[[], Any], folder: Path) -> None:
    import torch

    torch.manual_seed(1)
    model = build()
    with torch.no_grad():  # wider weights, so that answers depend on the prompt and differ
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)


def greedy_log_probs(engine: TorchEngine, request: Request, count: int) -> list[float]:
    """Log-probabilities of the `count` likeliest tokens, one after the other, without a cache: as plain as it can be said."""
    import torch

    ids: list[int] = []
    out: list[float] = []
    while len(out) < count:
        with torch.no_grad():
            if engine.encoder_decoder:
                decoder = torch.tensor([[engine.model.generation_config.decoder_start_token_id, *ids]])
                logits = engine.model(input_ids=torch.tensor([request.tokens]), decoder_input_ids=decoder).logits
            else:
                logits = engine.model(torch.tensor([[*request.tokens, *ids]])).logits
        scores = logits[0, -1].double().log_softmax(-1)
        ids.append(int(scores.argmax()))
        out.append(float(scores.max()))
    return out


@pytest.fixture
def copy_of(tmp_path: Path) -> Copy:
    """A copy of a model folder that a test may damage."""
    import shutil

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "model"))

    return copy


def texts_of(folder: Path, words: Sequence[str]) -> Path:
    """A file of 60 ragged texts in the folder."""
    rows = [{"id": i, "text": " ".join(words[(i + j * j) % len(words)] for j in range(1 + i % 9))} for i in range(60)]
    return write_rows(folder / "texts.jsonl", rows)


@pytest.fixture
def texts(tmp_path: Path, words: list[str]) -> Path:
    return texts_of(tmp_path, words)


@pytest.fixture
def server() -> Iterator[servers.FakeServer]:
    """A server of the OpenAI protocol, in this process."""
    with servers.serving() as running:
        yield running


@pytest.fixture
def at(server: servers.FakeServer) -> list[object]:
    """The options that name its model."""
    return ["-m", "openai:tiny", "--api-base", server.base]
