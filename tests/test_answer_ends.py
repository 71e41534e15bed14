"""Where an answer ends: end tokens, stop strings, tokens named to stop at, and the limit, on tokenizers of several kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, write_rows

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt


def says(folder: Path, tokenizer: Any, answer: list[int], prompt: str = "x") -> Path:
    """A model that answers every prompt of one token with these tokens: its output layer knows the position alone."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    size = len(tokenizer)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=64, n_layer=1, n_head=1, n_positions=64, tie_word_embeddings=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.ln_f.weight.fill_(1.0)
        model.transformer.wpe.weight.copy_(torch.eye(64))
        for place, token in enumerate(answer):
            model.lm_head.weight[token, place + len(tokenizer(prompt)["input_ids"]) - 1] += 9.0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes `L be<|end|>again` and its end, where <|end|> is a special token and not the end."""
    tokenizer = byte_tokenizer(["</s>", "<|end|>"], eos_token="</s>", additional_special_tokens=["<|end|>"])
    ids = tokenizer("L be<|end|>again</s>")["input_ids"]
    return says(tmp_path_factory.mktemp("chatty"), tokenizer, ids)


def answer(run: Run, model: Path, *more: object) -> dict[str, Any]:
    ran = run("generate", "x", "-m", model, "--max-new-tokens", 20, "--json", "-q", *more)
    assert ran.code == 0, ran.err
    return dict(json.loads(ran.out))


def streamed(run: Run, model: Path, *more: object) -> str:
    ran = run("generate", "x", "-m", model, "--max-new-tokens", 20, "-q", *more)
    assert ran.code == 0, ran.err
    return ran.out.removesuffix("\n")


@pytest.mark.parametrize(
    ("stop", "text", "tokens"),
    [
        ([], "L beagain", 11),
        (["--stop", "<|end|>"], "L be", 5),
        (["--stop-token", "<|end|>"], "L be", 5),
        (["--stop", "<|end|>ag"], "L be", 7),
        (["--stop", "e<|end|>"], "L b", 5),
        (["--stop", "<|end|>\n"], "L beagain", 11),
        (["--stop", "g"], "L bea", 7),
        (["--stop-token", "g"], "L bea", 7),
        (["--stop", "</s>"], "L beagain", 11),
        (["--stop", "zz", "--stop", "<|end|>"], "L be", 5),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_an_answer_ends_before_a_special_token_that_is_named(run: Run, chatty: Path, stop: list[str], text: str, tokens: int) -> None:
    found = answer(run, chatty, *stop)
    assert (found["text"], found["completion_tokens"]) == (text, tokens)
    assert found["finish_reason"] == ("eos" if tokens == 11 else "stop")
    assert streamed(run, chatty, *stop) == text


def test_stops_hold_in_a_batch_with_speculation_samples_and_beams(run: Run, chatty: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "x"}] * 3)
    ways: list[list[str]] = [[], ["--prompt-lookup", "3"], ["--temperature", "0.01"], ["--num-beams", "2"]]
    for way in ways:
        for stop in (["--stop", "<|end|>"], ["--stop-token", "<|end|>"]):
            ran = run("generate", "-i", rows, "-m", chatty, "--max-new-tokens", 20, "-q", *stop, *way)
            assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["L be"] * 3, way


def test_a_token_that_the_model_does_not_have_is_refused_before_any_row(run: Run, chatty: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "x"}] * 3)
    ran = run("generate", "-i", rows, "-m", chatty, "--stop-token", "<|nope|>", "-o", tmp_path / "out.jsonl")
    assert ran.code == 2
    assert "--stop-token: the model has no token '<|nope|>'" in ran.err
    assert run("generate", "x", "--stop-token", "").code == 2


def test_the_built_in_engine_stops_at_a_token_as_torch_does(run: Run) -> None:
    arguments = ["generate", "Once upon a time", "--max-new-tokens", "40", "--json", "-q", "--logprobs"]
    whole = json.loads(run(*arguments).out)
    name = whole["logprobs"][7]["token"]
    token = next(t for t in (name, name.replace(" ", "Ġ"), name.replace(" ", "▁")) if run(*arguments, "--stop-token", t).code == 0)
    answers = [json.loads(run(*arguments, "--stop-token", token, "--engine", engine).out) for engine in ("ctranslate2", "torch")]
    assert [a["text"] for a in answers] == [answers[0]["text"]] * 2
    assert answers[0]["finish_reason"] == answers[1]["finish_reason"] == "stop"
    assert whole["text"].startswith(answers[0]["text"])
    assert answers[0]["completion_tokens"] == answers[1]["completion_tokens"] <= 8


def test_a_grammars_end_is_the_end(run: Run, chatty: Path, tmp_path: Path) -> None:
    """Tokenizer and configuration name different ends, as stale configurations do."""
    tokenizer = byte_tokenizer(["</s>", "<|end|>"], eos_token="<|end|>")
    model = says(tmp_path / "model", tokenizer, tokenizer("abcdefghijklmnop")["input_ids"])
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 256}))
    found = answer(run, model, "--regex", "[a-z]{3}")
    assert (found["text"], found["finish_reason"], found["completion_tokens"]) == ("abc", "eos", 4)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece-like tokenizer (spaces as ▁, one leading space stripped) of a model that says "▁`--" three times."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "▁x", "▁`--", "▁the", "x", "▁"]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[("▁", "x")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return says(tmp_path_factory.mktemp("pieces"), whole, [4, 5, 4, 4, 2])


def test_a_stop_that_begins_with_a_space_is_found_at_the_beginning_of_the_answer(run: Run, pieces: Path) -> None:
    assert answer(run, pieces)["text"] == " `-- the `-- `--"
    found = answer(run, pieces, "--stop", " `")
    assert (found["text"], found["finish_reason"], found["completion_tokens"]) == ("", "stop", 1)
    engine = TorchEngine(load(ModelSettings(str(pieces))), chat=ChatSettings("none"))
    decoding = Decoding(max_new_tokens=20, stop=(" `",))
    (tokens,) = engine._run([engine.make_request(Prompt(text="x"), decoding)], [(0, 0)], decoding, lambda: None)
    assert tokens is not None
    assert len(tokens) == 1


@pytest.mark.parametrize(("limit", "text"), [(1, "a"), (2, "a"), (3, "a"), (4, "a日"), (5, "a日"), (7, "a日本")])
def test_an_answer_that_its_limit_cuts_holds_whole_characters(run: Run, tmp_path: Path, limit: int, text: str) -> None:
    tokenizer = byte_tokenizer(["</s>"], eos_token="</s>")
    model = says(tmp_path / "model", tokenizer, tokenizer("a日本国</s>")["input_ids"])
    found = answer(run, model, "--max-new-tokens", limit)
    assert (found["text"], found["finish_reason"], found["completion_tokens"]) == (text, "length", limit)
    assert streamed(run, model, "--max-new-tokens", limit) == text


def test_a_real_replacement_character_stays(run: Run, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(["</s>"], eos_token="</s>")
    model = says(tmp_path / "model", tokenizer, tokenizer("a\ufffd</s>")["input_ids"])
    assert answer(run, model)["text"] == streamed(run, model) == "a\ufffd"


def test_a_backslash_and_a_letter_in_a_stop_is_remarked_on(run: Run, tmp_path: Path) -> None:
    ran = run("generate", "Once", "--max-new-tokens", 2, "--stop", r"\n", "-q")
    assert ran.code == 0
    assert r"--stop: '\n' is a backslash and the letter n" in ran.err
    rows = write_rows(tmp_path / "in.jsonl", [{"a": "x"}])
    ran = run("generate", "-i", rows, "--max-new-tokens", 2, "--template", r"Say:\n{a}", "-q")
    assert r"--template: '\n' is a backslash" in ran.err
    assert run("generate", "Once", "--max-new-tokens", 2, "--stop", "\n", "-q").err == ""


def test_the_first_rows_hint_is_said_at_the_end(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}, {"other": 1}])
    ran = run("generate", "-i", rows, "--max-new-tokens", 2, "-o", tmp_path / "out.jsonl")
    assert ran.code == 3
    assert "hint: name the field with --prompt-field, or use --template" in ran.err
    ran = run("generate", "-i", rows, "--max-new-tokens", 2, "-o", tmp_path / "other.jsonl", "--max-errors", 0)
    assert ran.code == 3
    assert "hint: name the field with --prompt-field" in ran.err
