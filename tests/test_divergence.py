"""KL divergence and same top token against another model are what double precision gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import STORIES, Run, read_rows, write_rows

from llmkit.metrics.divergence import NAMES, Window, scores


@pytest.fixture
def rows(tmp_path: Path, ragged: list[str]) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [{"id": i, "text": text[:120]} for i, text in enumerate(ragged[:12])])


@pytest.fixture(scope="module")
def other(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GPT-2 with noise on its weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("other")
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(gpt2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter) if parameter.ndim > 1 else 0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gpt2).save_pretrained(folder)
    return folder


def plain(folder: Path, reference: Path, texts: list[str]) -> list[list[tuple[float, bool, float, float]]]:
    """(divergence, same top token, log-probability, the reference's) of each token of each text, in float64, one text at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = [AutoModelForCausalLM.from_pretrained(path).double() for path in (folder, reference)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out = []
    for text in texts:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            q, p = (model(ids).logits[0, :-1].log_softmax(-1) for model in models)
        kl = (p.exp() * (p - q)).sum(-1)
        rows = torch.arange(len(q))
        columns = (kl, q.argmax(-1) == p.argmax(-1), q[rows, ids[0, 1:]], p[rows, ids[0, 1:]])
        out.append(list(zip(*(c.tolist() for c in columns), strict=True)))
    return out


@pytest.mark.parametrize("batch", ["1", "auto"])
def test_the_figures_are_those_of_double_precision(run: Run, gpt2: Path, other: Path, rows: Path, tmp_path: Path, batch: str) -> None:
    out = tmp_path / "out.jsonl"
    command = ["evaluate", "perplexity", "-m", other, "--against", gpt2, "-i", rows, "--batch-size", batch]
    ran = run(*command, "-o", out, "--json", "-q")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)["scores"]
    expected = plain(other, gpt2, [row["text"] for row in read_rows(rows)])
    tokens = [token for document in expected for token in document]
    divergences = np.array([t[0] for t in tokens])
    assert found["kl_divergence"] == pytest.approx(divergences.mean(), rel=1e-4)
    for name, share in (("kl_median", 0.5), ("kl_p90", 0.9), ("kl_p99", 0.99), ("kl_p999", 0.999), ("kl_max", 1.0)):
        assert found[name] == pytest.approx(np.quantile(divergences, share), rel=1e-4)
    assert found["same_top_token"] == pytest.approx(100 * np.mean([t[1] for t in tokens]))
    assert found["same_top_token"] < 100
    ours, theirs = np.array([t[2] for t in tokens]), np.array([t[3] for t in tokens])
    assert found["perplexity_ratio"] == pytest.approx(np.exp(theirs.mean() - ours.mean()), rel=1e-5)
    assert found["mean_delta_p"] == pytest.approx(100 * np.mean(np.exp(ours) - np.exp(theirs)), abs=1e-4)
    assert found["rms_delta_p"] == pytest.approx(100 * np.sqrt(np.mean((np.exp(ours) - np.exp(theirs)) ** 2)), rel=1e-4)
    assert found["mean_log_likelihood"] == pytest.approx(ours.mean(), rel=1e-5)
    for row, document in zip(read_rows(out), expected, strict=True):
        assert row["token_kl"] == pytest.approx([t[0] for t in document], rel=1e-3, abs=1e-7)


def test_a_model_does_not_diverge_from_itself(run: Run, rows: Path) -> None:
    ran = run("evaluate", "perplexity", "--against", STORIES, "-i", rows, "--json", "--fail-if", "kl_divergence > 0")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)["scores"]
    assert {name: found[name] for name in NAMES} == pytest.approx(
        dict.fromkeys(NAMES, 0.0) | {"same_top_token": 100.0, "perplexity_ratio": 1.0}
    )


def test_a_coarser_precision_of_the_same_model_is_a_little_off(run: Run, rows: Path) -> None:
    found = json.loads(run("evaluate", "perplexity", "--dtype", "bfloat16", "--against", STORIES, "-i", rows, "--json").out)
    assert 0 < found["scores"]["kl_divergence"] < 0.01
    assert found["about"]["dtype"] == "bfloat16"
    assert found["about"]["against"]["dtype"] == "float32"
    low, high = found["intervals"]["kl_divergence"]
    assert low < found["scores"]["kl_divergence"] < high


def test_a_baseline_against_another_reference_is_refused(run: Run, gpt2: Path, other: Path, rows: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    assert run("evaluate", "perplexity", "-m", other, "--against", gpt2, "-i", rows, "--report", base, "-q").code == 0
    ran = run("evaluate", "perplexity", "-m", other, "--against", other, "-i", rows, "--baseline", base, "-q")
    assert ran.code == 2
    assert "two different signatures" in ran.err


@pytest.mark.filterwarnings("error")
def test_an_infinite_divergence_is_said() -> None:
    windows = [[Window(4, -8.0, -8.0, float("inf"), 3, 0.1, 0.01)], [Window(4, -8.0, -8.5, 0.5, 4, 0.1, 0.01)]]
    found = {score.name: score for score in scores(windows, [0.1, 0.1, float("inf"), 0.1, 0.1, 0.2, 0.1, 0.1], protocol="p")}
    assert found["kl_divergence"].value == found["kl_max"].value == found["kl_p90"].value == float("inf")
    assert found["kl_divergence"].interval is None
    assert found["kl_median"].value == 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "GPT2"], "tokenizer differs"), (["--engine", "ctranslate2"], "full token"), (["--concatenate"], "--concatenate"),
        (["--fail-if", "kl_divergnce > 1"], "did you mean"),
    ],
)  # fmt: skip
def test_what_can_not_be_compared_is_refused(run: Run, gpt2: Path, rows: Path, options: list[str], said: str) -> None:
    given: list[Any] = [gpt2 if word == "GPT2" else word for word in options]
    ran = run("evaluate", "perplexity", "--against", STORIES, "-i", rows, *given)
    assert ran.code == 2
    assert said in ran.err
