"""Perplexity in float32 is that of double precision, to 2e-6 of the mean log-likelihood, at every batch size.

The long form takes a real model: TEST_MODEL=FOLDER python -m pytest -m slow tests/test_double_precision.py
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, write_rows
from test_perplexity import plain_log_likelihood

#: A folder with a causal model, as of SmolLM2-135M.
MODEL = os.environ.get("TEST_MODEL")
BOUND = 2e-6


def exact(model: Any, tokenizer: Any, texts: list[str], context: int) -> tuple[float, int]:
    """(log-likelihood, tokens) in double precision."""
    total, count = 0.0, 0
    for text in texts:
        sequence = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        value, scored = plain_log_likelihood(model, sequence, context, context)
        total, count = total + value, count + scored
    return total, count


def held(run: Run, folder: Path | str, rows: Path, batch_size: str, context: int, expected: tuple[float, int]) -> float:
    """How far the mean log-likelihood is off, relatively."""
    ran = run(
        "evaluate", "perplexity", "-m", folder, "-i", rows, "--json", "-q", "--dtype", "float32", "--context", context,
        "--batch-size", batch_size,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["counts"]["tokens"] == expected[1]
    return float(abs(found["scores"]["mean_log_likelihood"] / (expected[0] / expected[1]) - 1))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 with as many scores per token as SmolLM2, over which float32 sums go wrong."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from llmkit.models.builtin import folder as builtin

    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(builtin("stories"))
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    GPT2LMHeadModel(GPT2Config(vocab_size=49_152, n_embd=32, n_layer=2, n_head=2, n_positions=128, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("batch_size", ["1", "3", "auto"])
def test_a_wide_vocabulary_is_summed_right(run: Run, wide: Path, tmp_path: Path, ragged: list[str], batch_size: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in ragged])
    expected = exact(AutoModelForCausalLM.from_pretrained(wide).double(), AutoTokenizer.from_pretrained(wide), ragged, 64)
    assert held(run, wide, rows, batch_size, 64, expected) < BOUND


@pytest.mark.slow
@pytest.mark.skipif(MODEL is None, reason="TEST_MODEL names no folder with a model")
def test_a_real_model_is_within_the_bound_at_every_batch_size(run: Run, tmp_path: Path, words: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = [" ".join(words[(i * 7 + j * j + j) % len(words)] for j in range(30 + 70 * i)) for i in range(8)]
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    expected = exact(AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32").double(), tokenizer, texts, 256)
    off = {size: held(run, str(MODEL), rows, size, 256, expected) for size in ("1", "2", "5", "auto")}
    assert max(off.values()) < BOUND, off
    assert math.isfinite(expected[0])
