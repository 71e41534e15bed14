"""Prompts that are too long: what is cut, what stays, and how long the answer may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, read_rows, seeded, write_rows

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.errors import InputError
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def gpt2_256(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a context of 256 that never ends an answer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2_256")
    tokenizer = byte_tokenizer(["</s>", "<|user|>", "<|end|>"], eos_token="</s>", additional_special_tokens=["<|user|>", "<|end|>"])
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=256, eos_token_id=256)
    seeded(lambda: GPT2LMHeadModel(config), folder)
    tokenizer.save_pretrained(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": [256]}))
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ([], [(128, 128)] * 4),
        (["--max-new-tokens", "128"], [(128, 128)] * 4),
        (["--max-new-tokens", "6"], [(200, 6), (250, 6), (250, 6), (250, 6)]),
        (["--max-new-tokens", "1000"], [(128, 128)] * 4),
        (["--max-length", "100"], [(50, 50)] * 4),
        (["--max-length", "1000"], [(128, 128)] * 4),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) and part and isinstance(part[0], str) else "",
)
def test_a_longer_prompt_gets_no_longer_answer_and_every_one_gets_its_room(
    run: Run, gpt2_256: Path, tmp_path: Path, side: str, limit: list[str], expected: list[tuple[int, int]]
) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a" * n} for n in (200, 250, 256, 1000)])
    ran = run("generate", "-i", rows, "-m", gpt2_256, "-o", tmp_path / "out.jsonl", "--truncate", side, *limit)
    assert ran.code == 0, ran.err
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in read_rows(tmp_path / "out.jsonl")] == expected
    assert f"{sum(n > prompt for n, (prompt, _) in zip((200, 250, 256, 1000), expected, strict=True))} prompts were cut" in ran.err


def test_a_prompt_that_leaves_room_is_not_cut(run: Run, gpt2_256: Path) -> None:
    ran = run("generate", "a" * 128, "-m", gpt2_256, "--truncate", "left", "--json")
    assert json.loads(ran.out)["prompt_tokens"] == 128
    assert "cut" not in ran.err


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_encoder_reads_a_cut_text_with_what_its_tokenizer_puts_around_it(tmp_path: Path, side: str) -> None:
    from tokenizers import processors
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)]
    )
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, bos_token_id=256, eos_token_id=257, pad_token_id=258,
        decoder_start_token_id=257, forced_eos_token_id=None,
    )  # fmt: skip
    seeded(lambda: BartForConditionalGeneration(config), tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = TorchEngine(load(ModelSettings(str(tmp_path))))
    text = "begins " + "a" * 200 + " ends"
    request = engine.make_request(Prompt(text=text), Decoding(truncate=side, max_new_tokens=4))
    kept = text[:62] if side == "right" else text[-62:]
    assert list(request.tokens) == tokenizer(kept)["input_ids"]
    if side == "right":
        assert list(request.tokens) == tokenizer(text, truncation=True, max_length=64)["input_ids"]
    assert request.truncated == len(text) + 2 - 64


def chat(folder: Path, tmp_path: Path, system: str | None = None) -> TorchEngine:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    return TorchEngine(load(ModelSettings(str(folder))), chat=ChatSettings(str(tmp_path / "t.jinja"), system))


def read(engine: TorchEngine, messages: list[dict[str, Any]], side: str, **more: Any) -> str:
    prompt = Prompt(messages=tuple(messages), **more)
    request = engine.make_request(prompt, Decoding(truncate=side, max_new_tokens=56))
    assert len(request.tokens) <= 200
    return str(engine.tokenizer.decode(list(request.tokens)))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_conversation_is_cut_inside_its_longest_message(gpt2_256: Path, tmp_path: Path, side: str) -> None:
    engine = chat(gpt2_256, tmp_path)
    long = "".join(f"{n} kings " for n in range(100))
    text = read(engine, [{"role": "system", "content": "Be kind."}, {"role": "user", "content": long}], side)
    before, after = "<|user|>system: Be kind.<|end|><|user|>user: ", "<|end|><|user|>assistant: "
    assert text.startswith(before)
    assert text.endswith(after)
    content = text[len(before) : len(text) - len(after)]
    assert content == (long[: len(content)] if side == "right" else long[-len(content) :])
    assert len(engine.tokenizer(text)["input_ids"]) == 200


def test_of_several_long_messages_the_longest_are_cut_to_one_length(gpt2_256: Path, tmp_path: Path) -> None:
    turns = [("user", "1" * 300), ("assistant", "short"), ("user", "2" * 200), ("assistant", "3" * 9), ("user", "go on")]
    text = read(chat(gpt2_256, tmp_path), [{"role": role, "content": content} for role, content in turns], "right")
    assert "assistant: short<|end|>" in text
    assert "user: go on<|end|><|user|>assistant: " in text
    assert "3" * 9 in text
    assert text.count("1") == text.count("2") > 20


def test_one_text_in_a_chat_is_cut_beside_the_system_message(gpt2_256: Path, tmp_path: Path) -> None:
    engine = chat(gpt2_256, tmp_path, "Be kind.")
    request = engine.make_request(Prompt(text="x" * 500), Decoding(truncate="right", max_new_tokens=56))
    text = engine.tokenizer.decode(list(request.tokens))
    assert text.startswith("<|user|>system: Be kind.<|end|><|user|>user: xxx")
    assert text.endswith("x<|end|><|user|>assistant: ")
    assert len(request.tokens) == 200


def test_a_message_that_is_continued_is_not_cut(gpt2_256: Path, tmp_path: Path) -> None:
    engine = chat(gpt2_256, tmp_path)
    messages = [{"role": "user", "content": "a" * 300}, {"role": "assistant", "content": "b" * 100}]
    text = read(engine, messages, "right", continue_last=True)
    assert text.endswith("<|end|><|user|>assistant: " + "b" * 100)
    with pytest.raises(InputError, match="too long even without its text"):
        read(engine, [messages[0], {"role": "assistant", "content": "b" * 300}], "right", continue_last=True)


def test_a_template_that_leaves_no_room_is_an_error_of_the_row(run: Run, gpt2_256: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("z" * 300 + "{{ messages[0].content }}")
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a" * 300}])
    ran = run("generate", "-i", rows, "-m", gpt2_256, "--chat-template", tmp_path / "t.jinja", "--truncate", "left")
    assert ran.code == 3
    assert "too long even without its text" in json.loads(ran.out)["error"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_an_endless_prompt_only_a_part_is_tokenized(run: Run, tmp_path: Path, gpt2: Path, side: str) -> None:
    endless, short = "ab" * 510_000, "ab" * 400
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": endless}, {"prompt": short}])
    arguments = ["generate", "-i", rows, "-m", gpt2, "--max-new-tokens", "3"]
    refused, cut = run(*arguments), run(*arguments, "--truncate", side)
    assert refused.code == 3
    assert "the prompt is more than " in refused.err
    first, second = ({**row, "prompt": ""} for row in map(json.loads, cut.out.splitlines()))
    assert first == second
