"""Models of many families on CTranslate2: converted once, they answer and score as torch does; what differs goes to torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Copy, Process, Run, finish, read_rows, start, write_rows
from test_adapters import lora
from test_architectures import BART, CAUSAL, GROUPED, SMALL, build

from llmkit.cli.doctor_lines import known_speed
from llmkit.engines.base import Engine
from llmkit.engines.ctranslate2 import cache
from llmkit.engines.decoding import Decoding
from llmkit.engines.registry import choose, open_engine
from llmkit.errors import EngineLimitError
from llmkit.models import speed
from llmkit.models.settings import ModelSettings
from llmkit.models.shelf import remove
from llmkit.rows.fields import Prompt

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "initializer_factor": 0.1}
#: Each family that is converted, by its class, with settings that its real models have; a second time where kinds of it differ.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2", GPT),
    "Llama": ("Llama", GROUPED | {"rms_norm_eps": 1e-3, "attention_bias": True}),
    "Llama with heads of their own size": ("Llama", GROUPED | {"head_dim": 8}),
    "Llama 3": ("Llama", GROUPED | {"rope_parameters": LLAMA3}),
    "Mistral": ("Mistral", GROUPED | {"sliding_window": None}),
    "Qwen2": ("Qwen2", GROUPED),
    "Qwen3": ("Qwen3", GROUPED | {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}),
    "Gemma": ("Gemma", GROUPED | {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}),
    "Gemma 3": ("Gemma3Text", GROUPED | {"head_dim": 16, "sliding_window": 512, "query_pre_attn_scalar": 64}),
    "Gemma 3 with scaled positions": (
        "Gemma3Text",
        GROUPED
        | {"head_dim": 16, "sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}
        | {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 8.0},
            }
        },
    ),
    "Gemma 3 that sees": (
        "Gemma3",
        {"text_config": GROUPED | {"head_dim": 16, "sliding_window": 512, "vocab_size": 267}, "mm_tokens_per_image": 4}
        | {"vision_config": SMALL | {"image_size": 28, "patch_size": 14, "num_hidden_layers": 1}},
    ),
    "Phi-3": ("Phi3", GROUPED | {"sliding_window": None}),
    "GPT-NeoX": ("GPTNeoX", CAUSAL["GPTNeoX"]),
    "OPT": ("OPT", CAUSAL["OPT"]),
    "Bloom": ("Bloom", CAUSAL["Bloom"]),
    "Falcon": ("Falcon", CAUSAL["Falcon"]),
    "Falcon 40B": ("Falcon", CAUSAL["Falcon"] | {"num_attention_heads": 4, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "MPT": ("Mpt", {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 128}),
    "GPT-J": ("GPTJ", GPT | {"rotary_dim": 8}),
    "CodeGen": ("CodeGen", GPT | {"n_embd": 64, "n_head": 4, "rotary_dim": 8}),
    "GPT-BigCode": ("GPTBigCode", GPT),
    "BART": ("Bart", BART),
    "Marian": ("Marian", BART),
    "mBART": ("MBart", BART),
    "M2M100": ("M2M100", BART | {"max_position_embeddings": 300}),
    "Pegasus": ("Pegasus", BART),
    "T5": ("T5", T5),
    "T5 1.1": ("T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mT5": ("MT5", T5),
    "UMT5": ("UMT5", T5),
}
#: Those that CI runs; the others are of the same making.
SHORT = ["GPT-2", "Llama", "Qwen3", "Gemma 3 with scaled positions", "Phi-3", "GPT-NeoX", "Falcon", "MPT", "Marian", "M2M100", "T5"]


def made(name: str, folder: Path) -> Path:
    import transformers

    kind, settings = FAMILIES[name]
    if kind == "Gemma3Text":
        return build(kind, settings, folder, "ForCausalLM")
    endings = ("ForConditionalGeneration", "ForCausalLM", "LMHeadModel")
    return build(kind, settings, folder, next(ending for ending in endings if hasattr(transformers, f"{kind}{ending}")))


def answers(engine: Engine, texts: list[str], decoding: Decoding) -> list[tuple[str, str, int, int]]:
    requests = [engine.make_request(Prompt(text=text), decoding, number) for number, text in enumerate(texts)]
    return [(a.text, a.finish_reason, a.prompt_tokens, a.completion_tokens) for (a,) in engine.generate(requests, decoding)]


def both(folder: Path, texts: list[str]) -> list[tuple[object, object]]:
    """Greedy and beam answers on CTranslate2 and on torch; scores within 1e-4 nats, and all else that is known of a model, are asserted."""
    torch, light = (open_engine(ModelSettings(str(folder)), engine=name) for name in ("torch", "ctranslate2"))
    decodings = [Decoding(max_new_tokens=12), Decoding(max_new_tokens=8, num_beams=4)]
    if torch.encoder_decoder:  # as the language of a translation
        decodings += [replace(decoding, first_token="a") for decoding in decodings]
    pairs = [(Prompt(text=text), " by the sea") for text in texts]
    for left, right in zip(torch.score_answers(pairs), light.score_answers(pairs), strict=True):
        assert [token.token for token in left] == [token.token for token in right]
        assert [token.logprob for token in left] == pytest.approx([token.logprob for token in right], abs=1e-4)
    assert replace(torch.identity, engine="ctranslate2") == light.identity
    assert (light.bos, light.eos, light.context, light.bos_remark()) == (torch.bos, torch.eos, torch.context, torch.bos_remark())
    assert set(light.facts().tokens) == set(torch.facts().tokens)
    return [pair for decoding in decodings for pair in zip(answers(light, texts, decoding), answers(torch, texts, decoding), strict=True)]


@pytest.mark.parametrize("name", SHORT)
def test_a_family_answers_and_scores_as_on_torch(name: str, tmp_path: Path, ragged: list[str]) -> None:
    for found, expected in both(made(name, tmp_path / "model"), [text[:60] for text in ragged[:8]]):
        assert found == expected


@pytest.mark.slow
def test_of_all_families_999_in_1000_rows_are_answered_as_on_torch(tmp_path: Path, ragged: list[str]) -> None:
    texts = [text[at : at + 1 + (at * 13) % 70] for text in ragged for at in range(0, 40, 8)]
    pairs: list[tuple[object, object]] = []
    for name in FAMILIES:
        pairs += both(made(name, tmp_path / name), [text for text in texts if text.strip()])
    unlike = sum(found != expected for found, expected in pairs)
    assert len(pairs) > 5000
    assert unlike <= len(pairs) / 1000  # beams that tie in models with random weights


@pytest.fixture
def no_forms() -> None:
    """Nothing is converted yet."""
    for entry in cache.SHELF.listed():
        remove(entry)


def test_a_converted_model_answers_without_torch_and_stops_at_its_context(run: Run, gpt2: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "the king " * n} for n in range(1, 15)])
    arguments = ["generate", "-i", str(rows), "-m", str(gpt2), "--engine", "ctranslate2", "--max-new-tokens", "30"]
    assert run(*arguments, "-o", tmp_path / "a.jsonl").code == 0
    code = f"""
import sys
from llmkit.cli.app import run
assert run({[*arguments, "-o", str(tmp_path / "b.jsonl")]!r}) == 0
print([m for m in ("torch", "transformers", "peft") if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr.splitlines()[-1] == "[]"
    assert run(*arguments[:-4], "--max-new-tokens", "30", "--engine", "torch", "-o", tmp_path / "c.jsonl").code == 0
    assert read_rows(tmp_path / "b.jsonl") == read_rows(tmp_path / "a.jsonl") == read_rows(tmp_path / "c.jsonl")


def test_a_conversation_is_rendered_as_on_torch(run: Run, llama: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": text}]} for text in ("the king", "a house")])
    out = {}
    for engine in ("torch", "ctranslate2"):
        ran = run("generate", "-i", rows, "-m", llama, "--engine", engine, "--max-new-tokens", "6", "-o", tmp_path / f"{engine}.jsonl")
        assert ran.code == 0, ran.err
        out[engine] = read_rows(tmp_path / f"{engine}.jsonl")
    assert out["torch"] == out["ctranslate2"]


def test_perplexity_and_choices_are_torchs_under_the_same_signature(run: Run, gpt2: Path, tmp_path: Path, ragged: list[str]) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in ragged])
    questions = [{"question": text[:40], "choices": ["king", "sea"], "answer": 0} for text in ragged[:12]]
    choices = write_rows(tmp_path / "choices.jsonl", questions)
    for arguments in (["perplexity", "-i", texts, "--context", "64", "--stride", "32"], ["choice", "-i", choices]):
        found = []
        for engine in ("torch", "ctranslate2"):
            ran = run("evaluate", *arguments, "-m", gpt2, "--engine", engine, "--json")
            assert ran.code == 0, ran.err
            found.append(json.loads(ran.out))
        assert found[1]["scores"] == pytest.approx(found[0]["scores"], rel=1e-5)
        assert found[1]["signatures"] == found[0]["signatures"]


def test_what_a_killed_conversion_left_is_cleared_and_one_that_goes_on_is_not(run: Run) -> None:
    code = "import os; from llmkit.engines.ctranslate2.cache import SHELF; part = SHELF.writing('dead').__enter__()"
    code += "; (part / 'model.bin').write_bytes(bytes(3_000_000)); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE)
    with cache.SHELF.writing("alive") as part:
        assert run("models", "clear").code == 0
        assert part.is_dir()
    assert not part.with_name(".dead.llmkit-part").exists()


@pytest.mark.usefixtures("no_forms")
def test_a_model_is_converted_once_listed_and_cleared(run: Run, llama: Path, copy_of: Copy) -> None:
    model = copy_of(llama)
    arguments = ("generate", "the king", "-m", model, "--engine", "ctranslate2", "--max-new-tokens", "3", "--chat-template", "none")
    first = run(*arguments, "-v")
    assert first.code == 0
    assert "is converted for CTranslate2, once" in first.err
    (entry,) = cache.SHELF.listed()
    assert "is converted" not in run(*arguments, "-v").err
    assert f"{model} (converted for CTranslate2)" in run("models").out
    (listed,) = [each for each in json.loads(run("models", "--json").out) if each.get("converted") == "ctranslate2"]
    assert listed == {"model": str(model), "revision": None, "bytes": entry.bytes, "converted": "ctranslate2"}
    # another tokenizer or configuration is another model, and other settings of the run are not
    (model / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert "is converted" in run(*arguments, "-v").err
    assert len(cache.SHELF.listed()) == 2
    mine = entry.folder / "mine.txt"
    mine.write_text("kept")
    assert run("models", "clear", "another").code == 2
    assert "2 converted models removed" in run("models", "clear", model).err
    assert cache.SHELF.listed() == []
    assert [path.name for path in entry.folder.iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("no_forms")
def test_a_damaged_form_is_noticed_and_made_again(run: Run, gpt2: Path) -> None:
    arguments = ("generate", "the king", "-m", gpt2, "--engine", "ctranslate2", "--max-new-tokens", "5")
    whole = run(*arguments).out
    (entry,) = cache.SHELF.listed()
    path = entry.folder / "model.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    ran = run(*arguments)
    assert (ran.code, ran.out) == (0, whole)
    assert "model.bin has changed since it was written" in ran.err
    assert "model.bin" not in run(*arguments).err
    manifest = entry.folder / "llmkit-converted.json"
    whole_manifest = json.loads(manifest.read_text())
    odd = whole_manifest["model"] | {"ends": 5}
    damages: list[dict[str, Any]] = [{"model": {}}, {"model": odd}, {"refused": "no"}, {"files": {}, "model": {}}]
    for damage in damages:
        manifest.write_text(json.dumps(whole_manifest | damage))
        speed.remember({"cpu": speed.Speed(1e10, {"float32": 1e11})})
        assert any(line.name == "--quantize int8" for line in known_speed())
        ran = run(*arguments, "--quantize", "int8")
        if damage.get("files") == {}:  # whose the other files are is not known any more
            assert (ran.code, "holds files that llmkit did not write" in ran.err) == (5, True)
        else:
            assert (ran.code, "is converted for CTranslate2, once" in ran.err) == (0, True)
    manifest.write_text(json.dumps(whole_manifest))


@pytest.mark.usefixtures("no_forms")
def test_two_processes_convert_one_model_once(gpt2: Path) -> None:
    arguments = ("generate", "the king", "-m", gpt2, "--engine", "ctranslate2", "--max-new-tokens", "5", "-v")
    both = [finish(process) for process in [start(*arguments), start(*arguments)]]
    assert [ran.code for ran in both] == [0, 0]
    assert both[0].out == both[1].out
    assert sum("is converted" in ran.err for ran in both) == 1
    assert len(cache.SHELF.listed()) == 1


def test_an_adapter_is_merged_into_the_form(run: Run, llama: Path, tmp_path: Path) -> None:
    arguments = ("generate", "the king", "-m", llama, "--max-new-tokens", "12", "--chat-template", "none", "-q")
    plain = run(*arguments, "--engine", "ctranslate2").out
    seen = set()
    for scale in (0.5, 1):
        adapter = lora(tmp_path / str(scale), llama, scale=scale)
        expected = run(*arguments, "--engine", "torch", "--adapter", adapter)
        ran = run(*arguments, "--engine", "ctranslate2", "--adapter", adapter)
        assert (ran.code, ran.out) == (0, expected.out)
        seen.add(ran.out)
    assert len(seen | {plain}) == 3


def test_an_adapter_with_a_last_matrix_of_its_own_is_merged_without_a_librarys_remark(process: Process, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    base = build("Llama", GROUPED | {"tie_word_embeddings": True}, tmp_path / "model", "ForCausalLM")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "adapter")
    arguments = ("generate", "the king", "-m", base, "--adapter", tmp_path / "adapter", "--max-new-tokens", "8")
    done = process(*arguments, "--engine", "ctranslate2")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if "is converted for CTranslate2" not in line] == []


def test_a_window_that_config_json_leaves_to_its_class_is_one(run: Run, tmp_path: Path) -> None:
    folder = build("Mistral", GROUPED | {"max_position_embeddings": 8192}, tmp_path / "model", "ForCausalLM")
    config = json.loads((folder / "config.json").read_text())
    del config["sliding_window"]  # 4,096 of MistralConfig
    (folder / "config.json").write_text(json.dumps(config))
    ran = run("generate", "the king", "-m", folder, "--engine", "ctranslate2", "--max-new-tokens", "2")
    assert (ran.code, "the model uses sliding-window attention" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("Gemma2", CAUSAL["Gemma2"], "does not cap scores as Gemma 2 does"),
        ("Mamba", CAUSAL["Mamba"], "the architecture 'mamba'"),
        ("Mistral", GROUPED | {"sliding_window": 16}, "sliding-window attention"),
        ("Gemma3Text", GROUPED | {"head_dim": 16, "sliding_window": 64}, "sliding-window attention"),
        ("Llama", GROUPED | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}}, "RoPE scaling 'yarn'"),
        ("GPT2", GPT | {"scale_attn_by_inverse_layer_idx": True}, "differ"),
    ],
    ids=["a family whose scores are capped", "another family", "a sliding window", "local layers", "positions", "found by comparing"],
)
def test_a_model_that_it_does_not_run_as_torch_does_is_refused(
    run: Run, tmp_path: Path, kind: str, settings: dict[str, Any], why: str
) -> None:
    folder = build(kind, settings, tmp_path / "model", "LMHeadModel" if kind == "GPT2" else "ForCausalLM")
    for _ in range(2):  # the second time without a new attempt
        ran = run("generate", "the king", "-m", folder, "--engine", "ctranslate2", "--max-new-tokens", "2")
        assert ran.code == 2
        assert why in ran.err
        assert ran.err.splitlines()[-1] == "hint: --engine torch"


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that 'auto' finds worth converting."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return build("Llama", sizes | {"max_position_embeddings": 128}, tmp_path_factory.mktemp("larger"), "ForCausalLM")


def test_auto_converts_what_runs_on_a_cpu_in_float32(run: Run, larger: Path, llama: Path) -> None:
    reference = str(larger)
    for settings, decoding, name in (
        (ModelSettings(reference, device="cpu"), Decoding(), "ctranslate2"),
        (ModelSettings(reference, device="cpu"), Decoding(num_beams=4), "ctranslate2"),
        (ModelSettings(reference, device="cpu", quantize="int8"), Decoding(), "ctranslate2"),
        (ModelSettings(reference, device="cpu", quantize="int4"), Decoding(), "torch"),
        (ModelSettings(reference, device="cpu", dtype="bfloat16"), Decoding(), "torch"),
        (ModelSettings(reference, device="cuda"), Decoding(), "torch"),
        (ModelSettings(reference, device="cpu"), Decoding(temperature=1.0), "torch"),
        (ModelSettings(str(llama), device="cpu"), Decoding(), "torch"),
    ):
        assert choose(settings, "auto", decoding)[0].name == name
    ran = run("generate", "the king", "-m", reference, "--device", "cpu", "--max-new-tokens", "4", "-v")
    assert "CTranslate2; cpu, float32" in ran.err
    assert ran.out == run("generate", "the king", "-m", reference, "--engine", "torch", "--max-new-tokens", "4").out
    ran = run("generate", "the king", "-m", reference, "--device", "cpu", "--quantize", "int8", "--max-new-tokens", "4", "-v")
    assert "times as fast as float32 here" in ran.err


def test_auto_goes_to_torch_with_one_notice_for_a_model_that_can_not_be_converted(run: Run, tmp_path: Path) -> None:
    sizes = GROUPED | {"hidden_size": 256, "intermediate_size": 2048, "head_dim": 64, "num_attention_heads": 4}
    folder = build("Gemma2", sizes, tmp_path / "model", "ForCausalLM")
    ran = run("generate", "the king", "-m", folder, "--device", "cpu", "--max-new-tokens", "2")
    assert ran.code == 0
    assert [line for line in ran.err.splitlines() if "ctranslate2" in line] == [
        f"{folder} can't run on the engine ctranslate2: it does not cap scores as Gemma 2 does; "
        "torch runs instead, which takes longer to start"
    ]


def test_a_cache_that_can_not_be_written_is_no_reason_to_fail(
    run: Run, larger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMKIT_HOME", str(tmp_path / "file" / "cache"))
    arguments = ("generate", "the king", "-m", larger, "--device", "cpu", "--max-new-tokens", "2")
    ran = run(*arguments)
    assert ran.code == 0
    assert "cannot be written: Not a directory; torch runs instead" in ran.err
    assert run(*arguments, "--engine", "ctranslate2").code == 5


def test_an_answer_does_not_depend_on_the_number_of_threads(run: Run, larger: Path) -> None:
    for engine in ("torch", "ctranslate2"):
        arguments = ("generate", "the king", "-m", larger, "--engine", engine, "--max-new-tokens", "16")
        assert run(*arguments, "--threads", "1").out == run(*arguments, "--threads", "2").out != ""
    ran = run("generate", "the king", "--threads", "0")
    assert ran.code == 2
    assert "--threads" in ran.err


def test_a_precision_without_kernels_is_an_error_that_names_those_that_there_are(larger: Path) -> None:
    from llmkit.engines.ctranslate2.limits import precisions

    assert "float32" in precisions()
    for dtype in {"float16", "bfloat16"} - set(precisions()):
        with pytest.raises(EngineLimitError, match=r"it computes in .*float32"):
            choose(ModelSettings(str(larger), dtype=dtype), "ctranslate2", Decoding())
