"""A fine-tuning run survives what happens to it, and stops at what it should not survive."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import PATIENCE, Copy, Process, Run, finish, kill, read_rows, stopped, texts_of, until, write_rows
from forking import Forked

from llmkit.files import file_sha256
from llmkit.training.trackers import TRACKERS


def weights(folder: Path) -> str:
    return file_sha256(folder / "adapter_model.safetensors")


def command(texts: Path, gpt2: Path) -> list[object]:
    """A run of 30 steps with dropout, all but its -o."""
    more = ["--max-steps", "30", "--save-steps", "5", "--lora-dropout", "0.2", "--grad-accum", "2", "--batch-size", "3"]
    return ["finetune", texts, "-m", gpt2, "--valid-split", "20%", "--learning-rate", "1e-3", *more]


@pytest.fixture
def training(texts: Path, gpt2: Path) -> list[object]:
    return command(texts, gpt2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, words: list[str], gpt2: Path) -> Path:
    """What the run leaves when nothing happens to it."""
    from llmkit.cli import app

    folder = tmp_path_factory.mktemp("trained")
    arguments = [*command(texts_of(folder, words), gpt2), "-o", folder / "whole"]
    assert app.run([str(argument) for argument in arguments]) == 0
    return folder / "whole"


@pytest.fixture
def whole(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "whole"))


def test_killed_runs_end_bit_for_bit_as_an_uninterrupted_one(run: Run, training: list[object], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    moments: list[Callable[[], bool]] = [
        lambda: (out / "checkpoints" / "part").exists(),  # inside the first checkpoint
        lambda: (out / "checkpoints" / "checkpoint-10").exists(),  # perhaps before it is known to be whole
        lambda: (out / "checkpoints" / "final").exists(),  # training is over, the adapter not yet in its place
    ]
    kills = 0
    for moment in moments:
        running = Forked(*training, "-o", out)
        until(moment, running)
        kills += kill(running)
    assert kills >= 2
    done = run(*training, "-o", out)
    assert done.code == 0, done.err
    assert weights(out) == weights(whole)
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not (out.parent / "killed.lock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_first(run: Run, training: list[object], whole: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "stopped"
    running = Forked(*training, "-o", out, "--save-steps", "1000")
    assert until(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 200, running)
    running.send_signal(number)
    ended = finish(running)
    assert ended.code == 128 + number
    assert "same command" in ended.err
    (checkpoint,) = (out / "checkpoints").glob("checkpoint-*")
    assert 0 < int(checkpoint.name.rpartition("-")[2]) < 30
    done = run(*training, "-o", out, "--save-steps", "1000")
    assert done.code == 0
    assert "resuming at step" in done.err
    assert weights(out) == weights(whole)


def test_the_time_allowed_ends_a_run_with_a_checkpoint(run: Run, training: list[object], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "short"
    assert run(*training, "-o", out, "--max-time", "0.001s").code == 124
    assert [p.name for p in (out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert run(*training, "-o", out).code == 0
    assert weights(out) == weights(whole)


def test_a_damaged_checkpoint_is_passed_over_and_a_swapped_optimizer_is_never_unpickled(
    run: Run, training: list[object], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    running = Forked(*training, "-o", out, "--keep-checkpoints", "3")
    assert until(lambda: (out / "checkpoints" / "checkpoint-20").exists(), running)
    kill(running)
    state = out / "checkpoints" / "state.json"
    newest, older, *_ = sorted(json.loads(state.read_text())["checkpoints"], key=lambda n: -int(n.rpartition("-")[2]))
    # a pickle that would write a file
    (out / "checkpoints" / newest / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    (out / "checkpoints" / older / "rng_state.pth").unlink()
    done = run(*training, "-o", out, "--keep-checkpoints", "3")
    assert done.code == 0, done.err
    assert f"{newest} is skipped: optimizer.pt has changed since it was written" in done.err
    assert f"{older} is skipped: rng_state.pth is missing" in done.err
    assert not (tmp_path / "ran").exists()
    assert weights(out) == weights(whole)


def test_another_run_is_refused_and_says_what_changed(run: Run, training: list[object], whole: Path, tmp_path: Path, texts: Path) -> None:
    out = tmp_path / "short"
    assert run(*training, "-o", out, "--max-time", "0.001s").code == 124
    changed = run(*training, "-o", out, "--lora-r", "8")
    assert changed.code == 2
    assert "lora.r was 16, is 8" in changed.err
    finished = run(*training, "-o", whole, "--seed", "4")
    assert finished.code == 2
    assert "optimization.seed was 0, is 4" in finished.err
    same = run(*training, "-o", whole)
    assert same.code == 0
    assert "already trained" in same.err
    rows = read_rows(texts)
    write_rows(texts, [*rows[:-1], {"text": "another"}])
    data = run(*training, "-o", out)
    assert data.code == 2
    assert "train_sha256" in data.err
    assert run(*training, "-o", out, "--restart").code == 0


def test_a_folder_of_something_else_is_not_written_to(run: Run, training: list[object], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    for more in ([], ["--overwrite"]):
        assert run(*training, "-o", tmp_path / "mine", *more).code == 2
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all my work"
    (tmp_path / "file").touch()
    assert run(*training, "-o", tmp_path / "file").code == 2
    assert run(*training).code == 2


def test_a_full_disk_keeps_the_last_checkpoint_and_the_same_command_goes_on(
    run: Run, training: list[object], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "full"
    assert run(*training, "-o", out, "--max-time", "0.001s").code == 124
    size = (out / "checkpoints" / "checkpoint-1" / "optimizer.pt").stat().st_size
    done = finish(Forked(*training, "-o", out, preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size // 2, size // 2))))
    assert done.code == 5, done.err
    assert "the last complete checkpoint is kept" in done.err
    assert [p.name for p in (out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert run(*training, "-o", out).code == 0
    assert weights(out) == weights(whole)


def test_a_full_temporary_folder_is_said_before_a_model_is_read(process: Process, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"{i} " + "word " * 200} for i in range(200)])
    done = process("finetune", rows, "--dry-run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert (done.code, done.out) == (5, "")
    assert "cannot be written" in done.err
    assert "TMPDIR" in done.err


@pytest.mark.parametrize(
    ("name", "code", "hint"),
    [("wandB", 2, "did you mean 'wandb'?"), ("neptune", 5, "pip install neptune")],
    ids=["unknown", "not installed"],
)
def test_a_tracker_that_is_not_there_is_said_before_the_run(
    run: Run, training: list[object], tmp_path: Path, name: str, code: int, hint: str
) -> None:
    done = run(*training, "-o", tmp_path / "out", "--report-to", name)
    assert done.code == code
    assert f"--report-to {name}: " in done.err
    assert hint in done.err
    assert not (tmp_path / "out").exists()


def test_the_trackers_are_those_that_transformers_knows() -> None:
    from transformers.integrations import INTEGRATION_TO_CALLBACK

    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


def test_a_second_process_on_the_same_folder_is_refused(run: Run, training: list[object], tmp_path: Path) -> None:
    out = tmp_path / "held"
    running = Forked(*training, "-o", out)
    assert until(lambda: (out / "metrics.jsonl").exists(), running)
    with stopped(running):
        second = run(*training, "-o", out)
    assert second.code == 2
    assert f"process {running.pid}" in second.err


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    run: Run, training: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "wild"
    done = run(*training, "-o", out, "--learning-rate", "1e30", "--save-steps", "1", "--eval-steps", "1000")
    assert done.code == 6
    assert "the last complete checkpoint is kept" in done.err
    assert not (out / "adapter_model.safetensors").exists()
    assert list((out / "checkpoints").glob("checkpoint-*"))


def test_a_run_that_goes_wrong_before_its_first_checkpoint_does_not_say_that_one_is_kept(
    run: Run, training: list[object], tmp_path: Path
) -> None:
    done = run(*training, "-o", tmp_path / "wild", "--learning-rate", "1e30", "--save-steps", "1000", "--eval-steps", "1000")
    assert done.code == 6
    assert "is kept" not in done.err
    assert not list((tmp_path / "wild" / "checkpoints").glob("checkpoint-*"))


def test_a_loss_of_exactly_zero_stops_the_run(run: Run, tmp_path: Path, gpt2: Path, copy_of: Copy) -> None:
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
    done = run("finetune", path, "-m", model, "-o", tmp_path / "out", "--max-length", "8")
    assert done.code == 6
    assert "exactly 0" in done.err


def test_early_stopping_keeps_the_best(run: Run, tmp_path: Path, texts: Path, gpt2: Path, words: list[str]) -> None:
    others = write_rows(tmp_path / "others.jsonl", [{"text": w[::-1] * 3} for w in words])
    out = tmp_path / "adapter"
    arguments = ["finetune", texts, "-m", gpt2, "-o", out, "--valid", others, "--learning-rate", "3e-2", "--max-steps", "60"]
    done = run(*arguments, "--early-stopping", "2", "--eval-steps", "2", "--save-steps", "7", "--keep-checkpoints", "1")
    assert done.code == 0, done.err
    losses = {row["step"]: row["eval_loss"] for row in read_rows(out / "metrics.jsonl") if "eval_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert sorted(losses) == list(range(2, best + 6, 2))
    assert max(losses) < 60
    assert f"the best validation loss was at step {best}" in done.err
    assert weights(out) == weights(out / "checkpoints" / f"checkpoint-{best}")


#: Starts something in two processes, as torchrun does.
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
#: A program that trains once with each list of arguments.
TRAININGS = """
import json, sys
from llmkit.cli import app
sys.exit(next(filter(None, (app.run(["finetune", *arguments]) for arguments in json.loads(sys.argv[1]))), 0))
"""


@pytest.fixture
def two_processes(tmp_path: Path) -> Callable[..., None]:
    """Trains in two processes, once with each list of arguments."""
    program = tmp_path / "trainings.py"
    program.write_text(TRAININGS)

    def train(*trainings: list[object]) -> None:
        done = subprocess.run(
            [*LAUNCH, str(program), json.dumps([[str(argument) for argument in arguments] for arguments in trainings])],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""

    return train


def test_two_processes_follow_the_curve_of_one(
    run: Run, two_processes: Callable[..., None], tmp_path: Path, texts: Path, llama: Path
) -> None:
    # a model without dropout, whose draws would differ
    common = [str(texts), "-m", str(llama), "--valid-split", "20%", "--max-steps", "8", "--save-steps", "4", "--learning-rate", "1e-3"]
    assert run("finetune", *common, "-o", tmp_path / "one", "--batch-size", "8").code == 0
    common += ["--batch-size", "4"]
    two_processes([*common, "-o", tmp_path / "two"], [*common, "-o", tmp_path / "sharded", "--fsdp"])
    same_curves(tmp_path / "one", tmp_path / "two")
    same_curves(tmp_path / "one", tmp_path / "sharded")


def same_curves(first: Path, second: Path) -> None:
    """Both runs logged the same losses, but for rounding."""
    ours, theirs = (read_rows(folder / "metrics.jsonl") for folder in (first, second))
    assert [sorted(row) for row in ours] == [sorted(row) for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for name in one.keys() & {"loss", "eval_loss"}:
            assert one[name] == pytest.approx(other[name], rel=1e-4)


@pytest.mark.slow
def test_two_processes_write_a_checkpoint_at_a_signal(two_processes: Callable[..., None], tmp_path: Path, texts: Path, llama: Path) -> None:
    common = [texts, "-m", llama, "--max-steps", "40", "--save-steps", "1000", "--batch-size", "2", "--fsdp"]
    two_processes([*common, "-o", tmp_path / "whole"])
    out = tmp_path / "stopped"
    running = subprocess.Popen(
        [*LAUNCH, "-m", "llmkit", "finetune", *map(str, common), "-o", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert until(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 200, running)
    running.send_signal(signal.SIGTERM)
    assert "finished work is kept" in finish(running).err
    (checkpoint,) = (out / "checkpoints").glob("checkpoint-*")
    assert 0 < int(checkpoint.name.rpartition("-")[2]) < 40
    two_processes([*common, "-o", out])
    assert weights(out) == weights(tmp_path / "whole")


@pytest.mark.slow
def test_a_process_without_rows_stops_no_run_and_answers_come_before_any_score(
    two_processes: Callable[..., None], tmp_path: Path, llama: Path
) -> None:
    row = write_rows(tmp_path / "row.jsonl", [{"text": "the king"}])
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "the"}])
    answers = ["--eval-prompts", prompts, "--eval-max-new-tokens", "2"]
    two_processes([row, "-m", llama, "--max-steps", "8", "-o", tmp_path / "out", "--fsdp", *answers])
    assert json.loads((tmp_path / "out" / "run.json").read_text())["result"]["steps"] == 8


@pytest.mark.slow
def test_two_processes_shard_an_encoder_and_a_decoder(two_processes: Callable[..., None], tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"source": f"Good morning {i}.", "target": f"Bonjour {i}."} for i in range(9)])
    common = [rows, "-m", "builtin:en-fr", "--max-steps", "3", "--batch-size", "2", "--grad-accum", "2"]
    two_processes([*common, "-o", tmp_path / "whole"], [*common, "-o", tmp_path / "sharded", "--fsdp"])
    same_curves(tmp_path / "whole", tmp_path / "sharded")


def test_weights_are_sharded_over_several_processes_only(run: Run, training: list[object], tmp_path: Path) -> None:
    done = run(*training, "-o", tmp_path / "out", "--fsdp")
    assert done.code == 2
    assert "--fsdp needs several processes" in done.err
    assert "start the run with torchrun" in done.err
    assert not (tmp_path / "out").exists()


def test_all_weights_are_not_sharded(run: Run, texts: Path, gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = ["finetune", texts, "-m", gpt2, "--full", "--dry-run"]
    done = run(*training, "--fsdp")
    assert done.code == 2
    assert "--full and --fsdp cannot be combined" in done.err
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run(*training)
    assert done.code == 2
    assert "start accelerate launch without FSDP" in done.err


def test_one_process_of_several_that_accelerate_was_asked_for_is_refused(
    run: Run, training: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    done = run(*training, "-o", tmp_path / "out")
    assert done.code == 5
    assert "start them with torchrun" in done.err
    assert not (tmp_path / "out").exists()


def test_deepspeed_is_refused_before_a_model_is_read(
    run: Run, training: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    done = run(*training, "-o", tmp_path / "out")
    assert done.code == 5
    assert "DeepSpeed is not supported" in done.err
    assert not (tmp_path / "out").exists()
