"""Of a model's generation_config.json special, forced and suppressed tokens are in force, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

PROMPT = ("the king", "--max-new-tokens", "12", "--chat-template", "none", "--json", "-q")


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "model"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def answer(run: Run, model: Path, *more: str) -> dict[str, Any]:
    ran = run("generate", "-m", model, *PROMPT, *more)
    assert ran.code == 0, ran.err
    return dict(json.loads(ran.out))


IGNORED: dict[str, dict[str, object]] = {
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
    "a penalty": {"repetition_penalty": 5.0},
    "n-grams": {"no_repeat_ngram_size": 1},
    "the encoder's": {"encoder_repetition_penalty": 2.0, "encoder_no_repeat_ngram_size": 2},
    "a length": {"min_length": 100, "max_length": 3, "min_new_tokens": 40},
    "stop strings": {"stop_strings": ["a", "e"]},
    "another return": {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    "contrastive search": {"penalty_alpha": 0.6, "top_k": 4},
    "DoLa": {"dola_layers": "high"},
    "a quantized cache": {"cache_implementation": "quantized"},
    "a cache that does not exist": {"cache_implementation": "x"},
    "time": {"max_time": 0.000001},
    "guidance": {"guidance_scale": 3.0},
    "a watermark": {"watermarking_config": {"bias": 50.0, "seeding_scheme": "selfhash"}},
    "a bias": {"sequence_bias": [[[5], 100.0]]},
    "groups of beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    "a forced end": {"forced_eos_token_id": 257},
    "lookup": {"prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("values", IGNORED.values(), ids=IGNORED)
def test_a_setting_of_the_model_changes_nothing(run: Run, llama: Path, model: Path, values: dict[str, object]) -> None:
    change(model / "generation_config.json", **values)
    assert answer(run, model) == answer(run, llama)


def test_a_setting_in_an_old_configuration_changes_nothing(run: Run, llama: Path, model: Path) -> None:
    (model / "generation_config.json").unlink(missing_ok=True)
    change(model / "config.json", repetition_penalty=5.0, min_length=100, bos_token_id=256, eos_token_id=257)
    assert answer(run, model) == answer(run, llama)


def written(model: Path) -> list[int]:
    """The tokens of the plain answer, by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(model)("the king", return_tensors="pt")
    out = AutoModelForCausalLM.from_pretrained(model).generate(**ids, max_new_tokens=12, do_sample=False)
    return [int(token) for token in out[0, ids["input_ids"].shape[1] :]]


@pytest.mark.parametrize("name", ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids"])
def test_suppressed_tokens_are_not_written(run: Run, llama: Path, model: Path, name: str) -> None:
    everything = [t for t in range(258) if t != 70]  # 70 is the letter g
    assert written(llama)[0] != 70
    change(model / "generation_config.json", **{name: [[t] for t in everything] if name == "bad_words_ids" else everything})
    text = answer(run, model)["text"]
    # transformers never takes the end for a bad word
    assert set(text) <= {"g"} if name == "bad_words_ids" else text[:1] == "g"


@pytest.mark.parametrize(
    "values", [{"suppress_tokens": "x"}, {"bad_words_ids": [1]}, {"forced_bos_token_id": 10**6}, {"eos_token_id": "</s>"}]
)
def test_tokens_that_are_none_are_an_error_that_names_them(run: Run, model: Path, values: dict[str, object]) -> None:
    change(model / "generation_config.json", **values)
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert next(iter(values)) in ran.err


def test_an_answer_ends_at_the_end_of_tokenizer_and_of_configuration(run: Run, llama: Path, model: Path) -> None:
    tokens = written(llama)
    end = next(token for token in tokens if tokens.index(token) > 0)
    number = tokens.index(end) + 1
    for configured in (end, [257, end]):
        change(model / "generation_config.json", eos_token_id=configured)
        ended = answer(run, model)
        assert (ended["finish_reason"], ended["completion_tokens"]) == ("eos", number)
    # the configuration names another end than the tokenizer
    change(model / "generation_config.json", eos_token_id=256)
    from transformers import AutoTokenizer

    change(model / "tokenizer_config.json", eos_token=AutoTokenizer.from_pretrained(llama).convert_ids_to_tokens(end))
    ended = answer(run, model)
    assert (ended["finish_reason"], ended["completion_tokens"]) == ("eos", number)


def test_the_ends_are_the_union_and_the_first_is_the_tokenizers() -> None:
    from types import SimpleNamespace

    from llmkit.engines.torch.generation_config import end_tokens

    def ends(tokenizer: int | None, configuration: object) -> tuple[int, ...]:
        return end_tokens(SimpleNamespace(eos_token_id=tokenizer), SimpleNamespace(eos_token_id=configuration))

    assert ends(7, 2) == (7, 2)
    assert ends(7, [2, 7, 9]) == (7, 2, 9)
    assert ends(None, 2) == (2,)
    assert ends(7, None) == (7,)
    assert ends(None, None) == ()
    assert ends(7, -1) == (7,)
