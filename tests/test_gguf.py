"""GGUF files as models: converted once, checked as any model, and answering as transformers' own reading of the file does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, read_rows, write_rows
from tiny_gguf import CONTEXT, EOS, GROUPS, HEADS, LAYERS, TURN, WIDE, WIDTH, of_model, vocabulary, write

from llmkit.engines.registry import open_engine
from llmkit.errors import ModelError
from llmkit.models.gguf.folder import SHELF
from llmkit.models.gguf.header import read_header
from llmkit.models.gguf.metadata import complete
from llmkit.models.reference import resolve
from llmkit.models.settings import ModelSettings
from llmkit.models.shelf import remove

PROMPTS = ["the king", "In a house by the sea", "7 of 9"]


@pytest.fixture
def nothing_converted() -> None:
    for entry in SHELF.listed():
        remove(entry)


def answers_of_transformers(path: Path, prompts: list[str], new_tokens: int) -> list[str]:
    """Greedy answers of the file as transformers itself reads it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    out = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=new_tokens, do_sample=False, eos_token_id=tokenizer.eos_token_id)
        text = tokenizer.decode(written[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
        out.append(text.rstrip("\ufffd"))  # a character that the limit cut
    return out


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_a_file_answers_as_in_transformers_on_either_engine(run: Run, tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "tiny.gguf", kind)
    expected = answers_of_transformers(path, PROMPTS, 12)
    assert len(set(expected)) == len(PROMPTS)
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    for engine in ("torch", "ctranslate2"):
        out = tmp_path / f"{engine}.jsonl"
        ran = run(
            "generate", "-i", rows, "-o", out, "-m", path, "--engine", engine, "--max-new-tokens", "12", "--chat-template", "none"
        )  # fmt: skip
        assert ran.code == 0, ran.err
        assert [row["text"] for row in read_rows(out)] == expected


def test_a_family_with_biases_keeps_them(run: Run, tmp_path: Path) -> None:
    numbers = np.random.default_rng(3)
    biases = {
        f"blk.{i}.attn_{name}.bias": numbers.normal(0, 1, size).astype(np.float32)
        for i in range(LAYERS)
        for name, size in (("q", WIDTH), ("k", WIDTH // HEADS * GROUPS), ("v", WIDTH // HEADS * GROUPS))
    }
    path = write(tmp_path / "tiny.gguf", architecture="qwen2", tensors=biases)
    ran = run("generate", PROMPTS[0], "-m", path, "--max-new-tokens", "12", "--chat-template", "none", "-q")
    assert ran.out.rstrip("\n") == answers_of_transformers(path, PROMPTS[:1], 12)[0]


@pytest.mark.usefixtures("nothing_converted")
def test_it_is_converted_once_listed_and_cleared(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", "Q8_0")
    arguments = ("generate", "the king", "-m", path, "--engine", "torch", "--max-new-tokens", "3")
    first = run(*arguments)
    assert "tiny.gguf (Q8_0) is converted to a model folder, once" in first.err
    again = run(*arguments)
    assert (again.code, again.out) == (0, first.out)
    assert "is converted" not in again.err
    assert f"{path} (converted from GGUF)" in run("models").out
    (entry,) = SHELF.listed()
    (entry.folder / "model.safetensors").write_bytes(b"damaged")
    assert (run(*arguments).out, len(SHELF.listed())) == (first.out, 1)
    assert "1 converted model removed" in run("models", "clear", path).err
    assert SHELF.listed() == []


@pytest.mark.usefixtures("nothing_converted")
def test_show_tells_what_a_file_is_from_its_header_alone(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", "Q4_0")
    shown = json.loads(run("models", "show", path, "--json").out)
    assert SHELF.listed() == []
    parameters = resolve(str(path))[1].parameters
    expected = {"architecture": "llama", "kind": "causal", "license": "apache-2.0", "weights_dtype": "Q4_0, F32", "context": CONTEXT}
    assert expected.items() <= shown.items()
    assert (shown["vocabulary"], shown["parameters"], shown["fits"]) == (len(vocabulary()), parameters, True)


def test_the_chat_template_of_the_file_is_used(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    arguments = ("-m", path, "--engine", "torch", "--max-new-tokens", "8", "-q")
    written = "[user] the king\n[assistant]"
    asked = run("generate", "the king", *arguments)
    assert asked.out == run("generate", written, *arguments, "--chat-template", "none").out
    assert asked.out != run("generate", "the king", *arguments, "--chat-template", "none").out


def test_an_answer_ends_with_each_end_that_the_file_names(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", more={"tokenizer.ggml.eot_token_id": TURN})
    assert resolve(str(path))[1].config["eos_token_id"] == [258, TURN]
    # not what a class of transformers has where a file is silent
    assert resolve(str(path))[1].config["pad_token_id"] is None


def factors(scale: float, context: int) -> Any:
    """What a converter of Llama 3.1 writes for each pair of dimensions, computed by transformers."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_theta": 10000.0, "factor": scale, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    settings = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT}
    plain = 10000.0 ** (-np.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
    scaled = LlamaConfig(**settings, rope_parameters=rope | {"rope_type": "llama3", "original_max_position_embeddings": context})
    return (plain / ROPE_INIT_FUNCTIONS["llama3"](scaled, "cpu")[0].numpy()).astype(np.float32)


def test_the_positions_of_llama_3_are_scaled_as_the_file_says(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", tensors={"rope_freqs.weight": factors(8.0, 64)})
    found = resolve(str(path))[1].config["rope_parameters"]
    assert {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}.items() <= found.items()


def test_positions_that_are_scaled_evenly_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", more={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0})
    found = resolve(str(path))[1].config["rope_parameters"]
    assert {"rope_type": "linear", "factor": 4.0}.items() <= found.items()


@pytest.mark.parametrize(
    ("more", "tensors", "said"),
    [
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, {}, "positions are scaled (yarn)"),
        ({}, {"rope_freqs.weight": np.linspace(1, 5, 8, dtype=np.float32)}, "not those of a known kind"),
        ({}, {"blk.0.attn_q.bias": np.ones(WIDTH, np.float32)}, "answers would be others"),
        ({"split.count": 3}, {}, "one of 3 parts"),
        ({"llama.block_count": 2_000_000_000}, {}, "2000000000 layers"),
        ({"llama.block_count": LAYERS + 1}, {}, "not those of a llama model"),
        ({"llama.embedding_length": 2 * WIDTH}, {}, f"its embedding_length is {2 * WIDTH}"),
        ({"llama.feed_forward_length": 2 * WIDE}, {}, f"has the shape [{WIDTH}, {WIDE}], and [{WIDTH}, {2 * WIDE}] by"),
        ({"llama.rope.dimension_count": WIDTH // HEADS // 2, "llama.attention.key_length": WIDTH // HEADS}, {}, "positions of 8 of 16"),
        ({"llama.rope.freq_base": float("nan")}, {}, "'rope.freq_base' is nan"),
        ({"llama.rope.freq_base": 0.0}, {}, "'rope.freq_base' is 0.0"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, {}, "'attention.layer_norm_rms_epsilon' is -1.0"),
        ({"llama.context_length": 0}, {}, "'context_length' is 0"),
        ({"llama.logit_scale": 0.25}, {}, "has logit_scale 0.25"),
        ({}, {"output.weight": np.full((len(vocabulary()), WIDTH), np.nan, np.float32)}, "'lm_head.weight' hold NaN"),
        ({"tokenizer.ggml.model": "unheard-of"}, {}, "does not read this GGUF file"),
    ],
)
def test_what_would_answer_otherwise_is_refused(run: Run, tmp_path: Path, more: dict[str, Any], tensors: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "tiny.gguf", more=more, tensors=tensors)
    ran = run("generate", "the king", "-m", path, "--engine", "torch")
    assert ran.code == 5
    assert said in ran.err
    assert "tiny.gguf" in ran.err
    assert not any(entry.manifest["reference"] == str(path) for entry in SHELF.listed())


SIZES = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "intermediate_size": 96,
    "max_position_embeddings": 128, "vocab_size": len(vocabulary()), "bos_token_id": None, "eos_token_id": EOS, "pad_token_id": None,
}  # fmt: skip
#: Architectures, and settings of a model of which transformers leaves its own in their place when it reads a file.
SETTINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "starcoder2": (
        "Starcoder2",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 77000.0}},
        {"attention.layer_norm_epsilon": 1e-5, "rope.freq_base": 77000.0},
    ),
    "stablelm": (
        "StableLm",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 77000.0, "partial_rotary_factor": 0.5}, "layer_norm_eps": 1e-2},
        {"attention.layer_norm_epsilon": 1e-2, "rope.freq_base": 77000.0, "rope.dimension_count": 8},
    ),
    "phi3": (
        "Phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}, "sliding_window": 8},
        {"attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": 8, "attention.sliding_window": 8},
    ),
    "nemotron": (
        "Nemotron",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}, "norm_eps": 1e-2},
        {"attention.layer_norm_epsilon": 1e-2, "rope.dimension_count": 4},
    ),
    "qwen3": (
        "Qwen3",
        {"head_dim": 32, "rms_norm_eps": 1e-2},
        {"attention.layer_norm_rms_epsilon": 1e-2, "attention.key_length": 32, "attention.value_length": 32},
    ),
}


@pytest.mark.parametrize("architecture", SETTINGS)
def test_what_a_file_says_of_its_model_is_in_force(architecture: str, tmp_path: Path) -> None:
    import torch
    import transformers

    name, settings, metadata = SETTINGS[architecture]
    torch.manual_seed(1)
    made = getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**SIZES | settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    loaded: Any = open_engine(ModelSettings(str(of_model(tmp_path / "tiny.gguf", architecture, made, metadata))), engine="torch")
    ids = torch.arange(40)[None] * 7 % 250
    with torch.no_grad():
        difference = made(ids).logits - loaded.model(ids).logits
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("missing", ["context_length", "attention.layer_norm_rms_epsilon"])
def test_a_file_that_does_not_say_what_answers_hang_on_is_refused(missing: str, tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "tiny.gguf"))
    silent = {name: value for name, value in header.metadata.items() if name != f"llama.{missing}"}
    with pytest.raises(ModelError, match=f"says nothing of 'llama.{missing}'"):
        complete(replace(header, metadata=silent), {})


def test_an_adapter_is_trained_on_a_file_and_merged_into_it(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", "Q8_0")
    rows = write_rows(tmp_path / "train.jsonl", [{"prompt": "the king", "completion": f" had {n} dogs"} for n in range(8)])
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    trained = run("finetune", rows, "-m", path, "-o", adapter, "--max-steps", "2", "--lora-r", "2", "--chat-template", "none")
    assert trained.code == 0, trained.err
    assert run("merge", adapter, "-o", merged).code == 0
    asked = ("generate", "the king", "--max-new-tokens", "8", "--engine", "torch", "-q", "--chat-template", "none")
    assert run(*asked, "-m", path, "--adapter", adapter).out == run(*asked, "-m", merged).out
