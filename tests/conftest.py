"""Tiny real models, made once a session, and ways to run the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Nothing here may reach a network, whatever the environment says; the hub tests talk to a server of their own.
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [n for n in os.environ if n.startswith("LLMKIT_")]:
    del os.environ[name]

STORIES = "builtin:stories"


@dataclass(frozen=True)
class Ran:
    """What a run of llmkit left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def llmkit(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command line in this process."""
    from llmkit.cli.app import run

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        sys.stdout.flush()
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def process() -> Callable[..., Ran]:
    """Runs the command line in a process of its own."""

    def call(*arguments: object, stdin: bytes | None = None, env: dict[str, str] | None = None, **more: object) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "llmkit", *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**os.environ, **(env or {})},
            timeout=240,
            check=False,
            **more,  # type: ignore[call-overload]
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


def start(*arguments: object, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llmkit", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload, no-any-return]


def until(condition: Callable[[], bool], running: subprocess.Popen[bytes]) -> None:
    """Waits for a state of the disk, or the end of the process."""
    while not condition() and running.poll() is None:
        os.sched_yield()


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


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, object]]:
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


def byte_tokenizer(special: list[str], add_bos: str | None = None, add_eos: str | None = None, **names: str) -> object:
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


def seeded(build: Callable[[], object], folder: Path) -> None:
    import torch

    torch.manual_seed(1)
    model = build()
    with torch.no_grad():  # wider weights, so that answers depend on the prompt and differ
        for parameter in model.parameters():  # type: ignore[attr-defined]
            if parameter.ndim > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)  # type: ignore[attr-defined]


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a model folder that a test may damage."""
    import shutil

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "model"))

    return copy


@pytest.fixture
def texts(tmp_path: Path, words: list[str]) -> Path:
    rows = [{"id": i, "text": " ".join(words[(i + j * j) % len(words)] for j in range(1 + i % 9))} for i in range(60)]
    return write_rows(tmp_path / "texts.jsonl", rows)
