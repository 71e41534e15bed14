"""`llmkit finetune`: data are judged before weights, a run survives what happens to it, and what was won is measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Copy, Run, read_rows, write_rows

CHATML = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture
def pairs(tmp_path: Path, words: list[str]) -> Path:
    rows = [{"source": words[i % 15] + " " + words[i % 7], "target": words[i % 7].upper()} for i in range(40)]
    return write_rows(tmp_path / "pairs.jsonl", rows)


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return content


def test_an_adapter_is_trained_measured_described_and_taken_by_the_other_commands(
    run: Run, tmp_path: Path, texts: Path, llama: Path
) -> None:
    out = tmp_path / "deep" / "adapter"
    done = run("finetune", texts, "-m", llama, "-o", out, "--valid-split", "20%", "--epochs", "4", "--learning-rate", "3e-3")
    assert done.code == 0, done.err
    assert done.out == ""
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "metrics.jsonl", "run.json"} <= set(os.listdir(out))
    found = record(out)
    figures = found["result"]["figures"]
    before, after = (figures[when]["token_perplexity"]["value"] for when in ("before", "after"))
    assert after < 0.8 * before
    assert f"{before:.3f}" in (out / "README.md").read_text()
    assert found["identity"]["lora.r"] == 16
    assert found["result"]["output_sha256"]
    losses = [row["loss"] for row in read_rows(out / "metrics.jsonl") if "loss" in row]
    assert len(losses) == found["result"]["steps"]
    plain = run("generate", "the king", "-m", llama, "--max-new-tokens", "8", "--chat-template", "none").out
    tuned = run("generate", "the king", "-m", llama, "--adapter", out, "--max-new-tokens", "8", "--chat-template", "none").out
    assert tuned != plain
    assert run("evaluate", "perplexity", "-m", llama, "--adapter", out, "-i", texts, "--json").code == 0


def test_the_figures_are_those_that_evaluate_gives(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    out = tmp_path / "adapter"
    assert run("finetune", texts, "-m", gpt2, "-o", out, "--valid", texts, "--max-steps", "3").code == 0
    own = record(out)["result"]["figures"]["after"]
    # the evaluator's texts have no EOS behind them
    rows = [{"prompt": "", "completion": row["text"]} for row in read_rows(texts)]
    path = write_rows(tmp_path / "rows.jsonl", [{"text": f"{r['completion']}<|endoftext|>"} for r in rows])
    scores = json.loads(run("evaluate", "perplexity", "-m", gpt2, "--adapter", out, "-i", path, "--json").out)["scores"]
    assert own["token_perplexity"]["value"] == pytest.approx(scores["token_perplexity"], rel=1e-5)


@pytest.mark.parametrize(
    "method", [["--dora"], ["--rslora", "--target-modules", "q_proj,v_proj"], ["--neftune", "5", "--gradient-checkpointing"]]
)
def test_other_ways_to_train_an_adapter(run: Run, tmp_path: Path, texts: Path, llama: Path, method: list[str]) -> None:
    out = tmp_path / "adapter"
    assert run("finetune", texts, "-m", llama, "-o", out, "--max-steps", "8", "--learning-rate", "3e-3", *method).code == 0
    losses = [row["loss"] for row in read_rows(out / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert run("generate", "the", "-m", llama, "--adapter", out, "--max-new-tokens", "2", "--chat-template", "none").code == 0
    if "--target-modules" in method:
        assert sorted(json.loads((out / "adapter_config.json").read_text())["target_modules"]) == ["q_proj", "v_proj"]


def test_all_weights_can_be_trained_and_the_result_is_a_model(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    out = tmp_path / "model"
    assert run("finetune", texts, "-m", gpt2, "-o", out, "--full", "--max-steps", "8", "--learning-rate", "1e-3").code == 0
    losses = [row["loss"] for row in read_rows(out / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert run("generate", "the", "-m", out, "--max-new-tokens", "2").code == 0


def test_an_encoder_decoder_learns_targets(run: Run, tmp_path: Path, pairs: Path) -> None:
    out = tmp_path / "adapter"
    done = run("finetune", pairs, "-m", "builtin:en-fr", "-o", out, "--epochs", "15", "--learning-rate", "5e-3", "--valid", pairs)
    assert done.code == 0, done.err
    answer = run("translate", "the the", "--to", "fr", "--adapter", out).out
    assert answer.strip().isupper()


def test_a_quantized_base_is_trained_with_the_gradients_of_its_weights(run: Run, tmp_path: Path, texts: Path, words: list[str]) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 'quantize' is not for this system")
    losses = {}
    for bits in ("none", "int4"):
        out = tmp_path / bits
        done = run("finetune", texts, "-o", out, "--quantize", bits, "--max-steps", "8", "--learning-rate", "2e-3")
        assert done.code == 0, done.err
        losses[bits] = [row["loss"] for row in read_rows(out / "metrics.jsonl")]
        assert record(out)["identity"]["model.quantize"] == bits
    won = {bits: found[0] - found[-1] for bits, found in losses.items()}
    assert won["int4"] > 0.7 * won["none"] > 0


def test_dry_run_tells_what_would_be_trained_and_writes_nothing(run: Run, tmp_path: Path, llama: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    path = write_rows(tmp_path / "chat.jsonl", [{"messages": chat}] * 3 + [{"messages": []}])
    (tmp_path / "chat.jinja").write_text(CHATML)
    arguments = ["finetune", path, "-m", llama, "--chat-template", tmp_path / "chat.jinja", "--dry-run"]
    refused = run(*arguments)
    assert refused.code == 2
    assert "line 4" in refused.err
    before = sorted(tmp_path.rglob("*"))
    done = run(*arguments, "--max-errors", "1")
    assert done.code == 0
    assert "[user] Hi\n[assistant]« Hello!\n</s>»" in done.out
    assert "not usable" in done.out
    found = json.loads(run(*arguments, "--max-errors", "1", "--json").out)
    assert (found["rows"], found["examples"], found["steps"], found["trained_parameters"]) == (4, 3, 3, 17408)
    assert found["seconds_a_step"] > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_of_plain_text_each_line_that_is_not_blank_is_a_row(run: Run, tmp_path: Path, gpt2: Path) -> None:
    (tmp_path / "lines.txt").write_text("the king\n\n  \nthe queen\n")
    found = json.loads(run("finetune", tmp_path / "lines.txt", "-m", gpt2, "--dry-run", "--json").out)
    assert (found["rows"], found["examples"]) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "0"], "above 0"),
        (["--learning-rate", "nan"], "not a number"),
        (["--lora-r", "33"], "--lora-r 32 or less"),
        (["--target-modules", "q_prj"], "did you mean 'q_proj'"),
        (["--batch-size", "0"], "1 or more"),
        (["--lora-dropout", "1"], "below 1"),
        (["--epochs", "-1"], "above 0"),
        (["--lr-scheduler", "step"], "is not one of linear"),
        (["--valid-split", "200%"], "not a share"),
        (["--early-stopping", "2"], "needs validation rows"),
        (["--full", "--dora"], "cannot be combined with --full"),
        (["--full", "--quantize", "int4"], "use only one"),
        (["--max-length", "1"], "2 or more"),
        (["--max-length", "9999"], "at most 256"),
        (["--seed", "-1"], "not a whole number"),
        (["--json"], "--dry-run"),
        (["--quantize", "int3"], "is not one of none"),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_meant_are_refused(
    run: Run, tmp_path: Path, texts: Path, llama: Path, arguments: list[str], message: str
) -> None:
    done = run("finetune", texts, "-m", llama, "-o", tmp_path / "out", "--chat-template", "none", *arguments)
    assert done.code == 2, done.err
    assert message in done.err
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no usable rows"),
        ([{"text": "a"}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], "several formats"),
        ([{"prompt": "x" * 400, "completion": "y"}] * 3, "lose every trained token"),
        ([{"nothing": 1}] * 3, "3 of 3 rows"),
    ],
)
def test_data_that_teach_nothing_are_refused_before_a_weight_is_read(
    run: Run, tmp_path: Path, llama: Path, copy_of: Copy, rows: list[dict[str, object]], message: str
) -> None:
    model = copy_of(llama)
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-4:] = b"\xff\xff\xff\xff"  # NaN, found when weights are read
    (model / "model.safetensors").write_bytes(content)
    path = write_rows(tmp_path / "rows.jsonl", rows)
    done = run("finetune", path, "-m", model, "-o", tmp_path / "out", "--chat-template", "none")
    assert done.code == 2
    assert message in done.err
    good = write_rows(tmp_path / "good.jsonl", [{"text": "a b c"}])
    assert run("finetune", good, "-m", model, "-o", tmp_path / "out").code == 5


def test_what_does_not_fit_in_memory_is_refused_with_the_arithmetic(run: Run, tmp_path: Path, texts: Path, llama: Path) -> None:
    done = run("finetune", "--train", f"{texts}:1000000", "-m", llama, "-o", tmp_path / "out", "--batch-size", "10G")
    assert done.code == 5
    assert "activations" in done.err
    # a batch holds no more rows than there are
    done = run("finetune", texts, "-m", llama, "-o", tmp_path / "out", "--batch-size", "10G", "--max-steps", "1")
    assert done.code == 0, done.err


def test_a_recorded_run_runs_again_to_the_same_adapter(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    out = tmp_path / "adapter"
    assert run("finetune", texts, "-m", gpt2, "-o", out, "--max-steps", "3").code == 0
    again = run("rerun", out / "run.json")
    assert again.code == 0, again.err
    assert "same result" in again.err


def test_options_come_from_a_configuration_file_too(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    (tmp_path / "run.toml").write_text(f'[finetune]\ntrain = "{texts}"\nmodel = "{gpt2}"\nmax-steps = 2\nlora_rank = 4\n')
    out = tmp_path / "adapter"
    assert run("fine-tune", "--config", tmp_path / "run.toml", "-o", out).code == 0
    assert record(out)["identity"]["lora.r"] == 4
