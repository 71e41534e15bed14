"""`llmkit finetune`: data are judged before weights, a run survives what happens to it, and what was won is measured."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, read_rows, start, until, write_rows

from llmkit.models.checkpoint import file_sha256

CHATML = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture
def texts(tmp_path: Path, words: list[str]) -> Path:
    rows = [{"id": i, "text": " ".join(words[(i + j * j) % len(words)] for j in range(1 + i % 9))} for i in range(60)]
    return write_rows(tmp_path / "texts.jsonl", rows)


@pytest.fixture
def pairs(tmp_path: Path, words: list[str]) -> Path:
    rows = [{"source": words[i % 15] + " " + words[i % 7], "target": words[i % 7].upper()} for i in range(40)]
    return write_rows(tmp_path / "pairs.jsonl", rows)


def weights(folder: Path) -> str:
    return file_sha256(folder / "adapter_model.safetensors")


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return content


def test_an_adapter_is_trained_measured_described_and_taken_by_the_other_commands(llmkit, tmp_path: Path, texts: Path, llama: Path) -> None:
    out = tmp_path / "deep" / "adapter"
    done = llmkit("finetune", texts, "-m", llama, "-o", out, "--valid-split", "20%", "--epochs", "4", "--learning-rate", "3e-3")
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
    plain = llmkit("generate", "the king", "-m", llama, "--max-new-tokens", "8", "--chat-template", "none").out
    tuned = llmkit("generate", "the king", "-m", llama, "--adapter", out, "--max-new-tokens", "8", "--chat-template", "none").out
    assert tuned != plain
    assert llmkit("evaluate", "perplexity", "-m", llama, "--adapter", out, "-i", texts, "--json").code == 0


def test_the_figures_are_those_that_evaluate_gives(llmkit, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    out = tmp_path / "adapter"
    assert llmkit("finetune", texts, "-m", gpt2, "-o", out, "--valid", texts, "--max-steps", "3").code == 0
    own = record(out)["result"]["figures"]["after"]
    # the evaluator's texts have no EOS behind them
    rows = [{"prompt": "", "completion": row["text"]} for row in read_rows(texts)]
    path = write_rows(tmp_path / "rows.jsonl", [{"text": f"{r['completion']}<|endoftext|>"} for r in rows])
    scores = json.loads(llmkit("evaluate", "perplexity", "-m", gpt2, "--adapter", out, "-i", path, "--json").out)["scores"]
    assert own["token_perplexity"]["value"] == pytest.approx(scores["token_perplexity"], rel=1e-5)


@pytest.mark.parametrize(
    "method", [["--dora"], ["--rslora", "--target-modules", "q_proj,v_proj"], ["--neftune", "5", "--gradient-checkpointing"]]
)
def test_other_ways_to_train_an_adapter(llmkit, tmp_path: Path, texts: Path, llama: Path, method: list[str]) -> None:
    out = tmp_path / "adapter"
    assert llmkit("finetune", texts, "-m", llama, "-o", out, "--max-steps", "8", "--learning-rate", "3e-3", *method).code == 0
    losses = [row["loss"] for row in read_rows(out / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert llmkit("generate", "the", "-m", llama, "--adapter", out, "--max-new-tokens", "2", "--chat-template", "none").code == 0
    if "--target-modules" in method:
        assert sorted(json.loads((out / "adapter_config.json").read_text())["target_modules"]) == ["q_proj", "v_proj"]


def test_all_weights_can_be_trained_and_the_result_is_a_model(llmkit, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    out = tmp_path / "model"
    assert llmkit("finetune", texts, "-m", gpt2, "-o", out, "--full", "--max-steps", "8", "--learning-rate", "1e-3").code == 0
    losses = [row["loss"] for row in read_rows(out / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert llmkit("generate", "the", "-m", out, "--max-new-tokens", "2").code == 0


def test_an_encoder_decoder_learns_targets(llmkit, tmp_path: Path, pairs: Path) -> None:
    out = tmp_path / "adapter"
    done = llmkit("finetune", pairs, "-m", "builtin:en-fr", "-o", out, "--epochs", "30", "--learning-rate", "5e-3", "--valid", pairs)
    assert done.code == 0, done.err
    answer = llmkit("translate", "the the", "--to", "fr", "--adapter", out).out
    assert answer.strip().isupper()


def test_a_quantised_base_is_trained_with_the_gradients_of_its_weights(llmkit, tmp_path: Path, texts: Path, words: list[str]) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 'quantize' is not for this system")
    losses = {}
    for bits in ("none", "int4"):
        out = tmp_path / bits
        done = llmkit("finetune", texts, "-o", out, "--quantize", bits, "--max-steps", "8", "--learning-rate", "2e-3")
        assert done.code == 0, done.err
        losses[bits] = [row["loss"] for row in read_rows(out / "metrics.jsonl")]
        assert record(out)["identity"]["model.quantize"] == bits
    won = {bits: found[0] - found[-1] for bits, found in losses.items()}
    assert won["int4"] > 0.7 * won["none"] > 0


def test_dry_run_tells_what_would_be_learnt_and_writes_nothing(llmkit, tmp_path: Path, llama: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    path = write_rows(tmp_path / "chat.jsonl", [{"messages": chat}] * 3 + [{"messages": []}])
    (tmp_path / "chat.jinja").write_text(CHATML)
    arguments = ["finetune", path, "-m", llama, "--chat-template", tmp_path / "chat.jinja", "--dry-run"]
    refused = llmkit(*arguments)
    assert refused.code == 2
    assert "line 4" in refused.err
    before = sorted(tmp_path.rglob("*"))
    done = llmkit(*arguments, "--max-errors", "1")
    assert done.code == 0
    assert "[user] Hi\n[assistant]« Hello!\n</s>»" in done.out
    assert "not usable" in done.out
    found = json.loads(llmkit(*arguments, "--max-errors", "1", "--json").out)
    assert (found["rows"], found["examples"], found["steps"], found["trained_parameters"]) == (4, 3, 2, 17408)
    assert found["seconds_a_step"] > 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "0"], "above 0"),
        (["--learning-rate", "nan"], "above 0"),
        (["--lora-r", "33"], "above the width"),
        (["--target-modules", "q_prj"], "did you mean q_proj"),
        (["--batch-size", "0"], "1 or more"),
        (["--lora-dropout", "1"], "below 1"),
        (["--epochs", "-1"], "above 0"),
        (["--lr-scheduler", "step"], "unknown schedule"),
        (["--valid-split", "200%"], "not a share"),
        (["--early-stopping", "2"], "needs validation rows"),
        (["--full", "--dora"], "is of an adapter"),
        (["--full", "--quantize", "int4"], "leave one"),
        (["--max-length", "1"], "2 or more"),
        (["--max-length", "9999"], "at most 256"),
        (["--seed", "-1"], "2^32"),
        (["--json"], "--dry-run"),
        (["--quantize", "int3"], "unknown quantization"),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_meant_are_refused(
    llmkit, tmp_path: Path, texts: Path, llama: Path, arguments: list[str], message: str
) -> None:
    done = llmkit("finetune", texts, "-m", llama, "-o", tmp_path / "out", "--chat-template", "none", *arguments)
    assert done.code == 2, done.err
    assert message in done.err
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to learn from"),
        ([{"text": "a"}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], "several formats"),
        ([{"prompt": "x" * 400, "completion": "y"}] * 3, "lose what is learnt"),
        ([{"nothing": 1}] * 3, "3 of 3 rows"),
    ],
)
def test_data_that_teach_nothing_are_refused_before_a_weight_is_read(
    llmkit, tmp_path: Path, llama: Path, copy_of, rows: list[dict[str, object]], message: str
) -> None:
    model = copy_of(llama)
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-4:] = b"\xff\xff\xff\xff"  # NaN, found when weights are read
    (model / "model.safetensors").write_bytes(content)
    path = write_rows(tmp_path / "rows.jsonl", rows)
    done = llmkit("finetune", path, "-m", model, "-o", tmp_path / "out", "--chat-template", "none")
    assert done.code == 2
    assert message in done.err
    good = write_rows(tmp_path / "good.jsonl", [{"text": "a b c"}])
    assert llmkit("finetune", good, "-m", model, "-o", tmp_path / "out").code == 5


def test_what_does_not_fit_in_memory_is_refused_with_the_arithmetic(llmkit, tmp_path: Path, texts: Path, llama: Path) -> None:
    done = llmkit("finetune", texts, "-m", llama, "-o", tmp_path / "out", "--batch-size", "10G")
    assert done.code == 5
    assert "activations" in done.err


# -- a run survives ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(texts: Path, gpt2: Path) -> list[object]:
    """A run of 30 steps with dropout, all but its -o."""
    more = ["--max-steps", "30", "--save-steps", "5", "--lora-dropout", "0.2", "--grad-accum", "2", "--batch-size", "3"]
    return ["finetune", texts, "-m", gpt2, "--valid-split", "20%", "--learning-rate", "1e-3", *more]


@pytest.fixture
def whole(llmkit: Callable[..., Ran], run: list[object], tmp_path: Path) -> Path:
    assert llmkit(*run, "-o", tmp_path / "whole").code == 0
    return tmp_path / "whole"


def test_killed_runs_end_bit_for_bit_as_an_uninterrupted_one(llmkit, run: list[object], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    moments: list[Callable[[], bool]] = [
        lambda: (out / "checkpoints" / "part").exists(),  # inside the first checkpoint
        lambda: (out / "checkpoints" / "checkpoint-10").exists(),  # perhaps before it is known to be whole
        lambda: (out / "checkpoints" / "final").exists(),  # training is over, the adapter not yet in its place
    ]
    kills = 0
    for moment in moments:
        running = start(*run, "-o", out)
        until(moment, running)
        running.kill()
        kills += running.wait() == -signal.SIGKILL
    assert kills >= 2
    done = llmkit(*run, "-o", out)
    assert done.code == 0, done.err
    assert weights(out) == weights(whole)
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not (out.parent / "killed.lock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_first(llmkit, run: list[object], whole: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "stopped"
    running = start(*run, "-o", out, "--save-steps", "1000")
    until(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 200, running)
    running.send_signal(number)
    _, err = running.communicate()
    assert running.returncode == 128 + number
    assert b"same command" in err
    (checkpoint,) = (out / "checkpoints").glob("checkpoint-*")
    assert 0 < int(checkpoint.name.rpartition("-")[2]) < 30
    done = llmkit(*run, "-o", out, "--save-steps", "1000")
    assert done.code == 0
    assert "going on from step" in done.err
    assert weights(out) == weights(whole)


def test_the_time_allowed_ends_a_run_with_a_checkpoint(llmkit, run: list[object], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "short"
    assert llmkit(*run, "-o", out, "--max-time", "0.001s").code == 124
    assert [p.name for p in (out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert llmkit(*run, "-o", out).code == 0
    assert weights(out) == weights(whole)


def test_a_damaged_checkpoint_is_passed_over_and_a_swapped_optimizer_is_never_unpickled(
    llmkit, run: list[object], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    running = start(*run, "-o", out, "--keep-checkpoints", "3")
    until(lambda: (out / "checkpoints" / "checkpoint-20").exists(), running)
    running.kill()
    running.wait()
    state = out / "checkpoints" / "state.json"
    newest, older, *_ = sorted(json.loads(state.read_text())["checkpoints"], key=lambda n: -int(n.rpartition("-")[2]))
    # a pickle that would write a file
    (out / "checkpoints" / newest / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    (out / "checkpoints" / older / "rng_state.pth").unlink()
    done = llmkit(*run, "-o", out, "--keep-checkpoints", "3")
    assert done.code == 0, done.err
    assert f"{newest} is not read: optimizer.pt is not the file that was written" in done.err
    assert f"{older} is not read: rng_state.pth is missing" in done.err
    assert not (tmp_path / "ran").exists()
    assert weights(out) == weights(whole)


def test_another_run_is_refused_and_says_what_changed(llmkit, run: list[object], whole: Path, tmp_path: Path, texts: Path) -> None:
    out = tmp_path / "short"
    assert llmkit(*run, "-o", out, "--max-time", "0.001s").code == 124
    changed = llmkit(*run, "-o", out, "--lora-r", "8")
    assert changed.code == 2
    assert "lora.r was 16, is 8" in changed.err
    finished = llmkit(*run, "-o", whole, "--seed", "4")
    assert finished.code == 2
    assert "course.seed was 0, is 4" in finished.err
    same = llmkit(*run, "-o", whole)
    assert same.code == 0
    assert "already trained" in same.err
    rows = read_rows(texts)
    write_rows(texts, [*rows[:-1], {"text": "another"}])
    data = llmkit(*run, "-o", out)
    assert data.code == 2
    assert "train_sha256" in data.err
    assert llmkit(*run, "-o", out, "--restart").code == 0


def test_a_folder_of_something_else_is_not_written_to(llmkit, run: list[object], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    for more in ([], ["--overwrite"]):
        assert llmkit(*run, "-o", tmp_path / "mine", *more).code == 2
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all my work"
    (tmp_path / "file").touch()
    assert llmkit(*run, "-o", tmp_path / "file").code == 2
    assert llmkit(*run).code == 2


def test_a_full_disk_keeps_the_last_checkpoint_and_the_same_command_goes_on(llmkit, run: list[object], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "full"
    assert llmkit(*run, "-o", out, "--max-time", "0.001s").code == 124
    size = (out / "checkpoints" / "checkpoint-1" / "optimizer.pt").stat().st_size
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))  # noqa: E731
    running = start(*run, "-o", out, preexec_fn=limit)
    _, err = running.communicate()
    assert running.returncode == 5, err
    assert b"the last whole checkpoint is kept" in err
    assert [p.name for p in (out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert llmkit(*run, "-o", out).code == 0
    assert weights(out) == weights(whole)


def test_a_tracker_that_is_not_there_is_said_before_the_run(llmkit, run: list[object], tmp_path: Path) -> None:
    done = llmkit(*run, "-o", tmp_path / "out", "--report-to", "nothing")
    assert done.code == 5
    assert "no such tracker" in done.err


def test_a_second_process_on_the_same_folder_is_refused(llmkit, run: list[object], tmp_path: Path) -> None:
    out = tmp_path / "held"
    running = start(*run, "-o", out)
    until(lambda: (out / "metrics.jsonl").exists(), running)
    second = llmkit(*run, "-o", out)
    running.kill()
    running.wait()
    assert second.code == 2
    assert f"process {running.pid}" in second.err


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(llmkit, run: list[object], tmp_path: Path) -> None:
    out = tmp_path / "wild"
    done = llmkit(*run, "-o", out, "--learning-rate", "1e30", "--save-steps", "1", "--warmup-ratio", "0.2")
    assert done.code == 1
    assert "the last good checkpoint is kept" in done.err
    assert not (out / "adapter_model.safetensors").exists()
    assert list((out / "checkpoints").glob("checkpoint-*"))


def test_a_loss_of_exactly_zero_stops_the_run(llmkit, tmp_path: Path, gpt2: Path, copy_of) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = copy_of(gpt2)
    tensors = load_file(model / "model.safetensors")
    # a model that is sure of the letter a, whatever comes before
    letter = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]["a"]
    tensors["transformer.ln_f.weight"].zero_()
    tensors["transformer.ln_f.bias"].fill_(1)
    tensors["transformer.wte.weight"].zero_()
    tensors["transformer.wte.weight"][letter] = torch.ones(32) * 100
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "a" * 20}] * 4)
    done = llmkit("finetune", path, "-m", model, "-o", tmp_path / "out", "--max-length", "8")
    assert done.code == 1
    assert "exactly 0" in done.err


def test_early_stopping_keeps_the_best(llmkit, tmp_path: Path, texts: Path, gpt2: Path, words: list[str]) -> None:
    others = write_rows(tmp_path / "others.jsonl", [{"text": w[::-1] * 3} for w in words])
    out = tmp_path / "adapter"
    arguments = ["finetune", texts, "-m", gpt2, "-o", out, "--valid", others, "--learning-rate", "3e-2", "--max-steps", "60"]
    done = llmkit(*arguments, "--early-stopping", "2", "--save-steps", "2", "--keep-checkpoints", "1")
    assert done.code == 0, done.err
    losses = {row["step"]: row["eval_loss"] for row in read_rows(out / "metrics.jsonl") if "eval_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 4 < 60
    assert f"the best validation loss was at step {best}" in done.err
    assert weights(out) == weights(out / "checkpoints" / f"checkpoint-{best}")


def test_two_processes_follow_the_curve_of_one(llmkit, tmp_path: Path, texts: Path, llama: Path) -> None:
    # a model without dropout, whose draws would differ
    common = [str(texts), "-m", str(llama), "--valid-split", "20%", "--max-steps", "8", "--learning-rate", "1e-3"]
    assert llmkit("finetune", *common, "-o", tmp_path / "one", "--batch-size", "8").code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "llmkit", "finetune"]
    done = subprocess.run(
        [*launch, *common, "-o", str(tmp_path / "two"), "--batch-size", "4"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    one, two = (read_rows(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        for name in ("loss", "eval_loss"):
            if name in first:
                assert first[name] == pytest.approx(second[name], rel=1e-4)


def test_a_recorded_run_runs_again_to_the_same_adapter(llmkit, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    out = tmp_path / "adapter"
    assert llmkit("finetune", texts, "-m", gpt2, "-o", out, "--max-steps", "3").code == 0
    again = llmkit("rerun", out / "run.json")
    assert again.code == 0, again.err
    assert "same result" in again.err


def test_options_come_from_a_configuration_file_too(llmkit, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    (tmp_path / "run.toml").write_text(f'[finetune]\ntrain = "{texts}"\nmodel = "{gpt2}"\nmax-steps = 2\nlora_rank = 4\n')
    out = tmp_path / "adapter"
    assert llmkit("fine-tune", "--config", tmp_path / "run.toml", "-o", out).code == 0
    assert record(out)["identity"]["lora.r"] == 4
