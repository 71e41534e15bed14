"""Fine-tuning and merging lose nobody's work: only what a run of llmkit wrote is replaced, and only by something complete."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, write_rows

from llmkit.errors import OutputError, UnavailableError
from llmkit.training.checkpoints import RunFolder
from llmkit.training.distributed import Processes
from llmkit.training.merge import Target
from llmkit.training.state import Entry, RunState, paths
from llmkit.training.watch import Watch


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, gpt2: Path) -> tuple[Path, list[str]]:
    """A finished run of two steps, and the command that made it."""
    from llmkit.cli import app

    folder = tmp_path_factory.mktemp("finished")
    rows = write_rows(folder / "rows.jsonl", [{"text": f"the king {i}"} for i in range(12)])
    arguments = ["finetune", str(rows), "-m", str(gpt2), "--max-steps", "2", "--save-steps", "1", "-q"]
    assert app.run([*arguments, "-o", str(folder / "ad")]) == 0
    return folder / "ad", arguments


@pytest.fixture
def ad(finished: tuple[Path, list[str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "ad"))


@pytest.mark.parametrize("wrong", ["rows", "model", "option"])
def test_overwrite_leaves_the_old_adapter_as_it_was_when_the_new_run_can_not_begin(
    run: Run, finished: tuple[Path, list[str]], ad: Path, tmp_path: Path, wrong: str
) -> None:
    arguments = [*finished[1], "--overwrite", "-o", str(ad)]
    arguments += {"rows": ["--valid", str(tmp_path / "typo.jsonl")], "model": ["-m", str(tmp_path)], "option": ["--lora-r", "99"]}[wrong]
    before = content(ad)
    assert run(*arguments).code == {"rows": 2, "model": 5, "option": 2}[wrong]
    assert content(ad) == before


def test_overwrite_replaces_what_the_old_run_wrote_and_keeps_what_the_user_laid_beside_it(
    run: Run, finished: tuple[Path, list[str]], ad: Path
) -> None:
    (ad / "thesis.txt").write_text("all my work")
    old = json.loads((ad / "run.json").read_text())
    done = run(*finished[1], "--overwrite", "--seed", "5", "-o", ad)
    assert done.code == 0, done.err
    assert (ad / "thesis.txt").read_text() == "all my work"
    new = json.loads((ad / "run.json").read_text())
    assert (new["identity"]["optimization.seed"], old["identity"]["optimization.seed"]) == (5, 0)
    assert new["result"]["output_sha256"] != old["result"]["output_sha256"]


@pytest.mark.parametrize("option", ["--restart", "--overwrite"])
def test_a_folder_that_llmkit_did_not_make_is_refused_and_stays(
    run: Run, finished: tuple[Path, list[str]], tmp_path: Path, option: str
) -> None:
    project = tmp_path / "proj"
    (project / "checkpoints").mkdir(parents=True)
    (project / "checkpoints" / "epoch3.pt").write_text("weights")
    (project / "run.json").write_text('{"command": "finetune", "note": "mine"}')
    rows = write_rows(project / "train.jsonl", [{"text": "the king"}] * 3)
    before = content(project)
    for output in (project, project / "checkpoints" / ".."):
        done = run("finetune", rows, *finished[1][2:], "-o", output, option)
        assert done.code == 2
        assert "holds no run of llmkit finetune" in done.err
    assert content(project) == before


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_names_of_folders_that_are_no_place_for_a_result_are_refused(
    run: Run, finished: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").write_text("notes")
    monkeypatch.chdir(tmp_path / "here")
    assert run(*finished[1], "-o", name, "--overwrite").code == 2
    assert content(tmp_path) == {"here/notes.txt": b"notes"} | {n: b for n, b in content(tmp_path).items() if "llmkit-lock" in n}


def test_a_finished_adapter_that_was_damaged_is_not_called_trained(run: Run, finished: tuple[Path, list[str]], ad: Path) -> None:
    assert "already trained" in run(*finished[1][:-1], "-o", ad).err
    (ad / "adapter_model.safetensors").write_bytes(b"")
    done = run(*finished[1], "-o", ad)
    assert done.code == 2
    assert "adapter_model.safetensors: has changed since it was written" in done.err


@pytest.mark.parametrize(
    "text", ["[]", "null", '"x"', "", "[" * 100_000, '{"format": 2}', '{"format": 2, "identity": [], "checkpoints": 3}']
)
def test_a_state_of_another_shape_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "ad" / "checkpoints").mkdir(parents=True)
    (tmp_path / "ad" / "checkpoints" / "state.json").write_text(text)
    with pytest.raises(OutputError, match=r"state\.json"):
        RunFolder(str(tmp_path / "ad"))


IDENTITY = {"seed": 1}


@pytest.mark.parametrize("change", [{"norms": None}, {"losses": ["x"]}, {"first": 3}, {"zeros": "x"}, {"spikes": None}], ids=str)
def test_a_memory_of_another_shape_is_none_of_the_watch(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not what the watch remembers"):
        Watch().restore(Watch().state() | change)


NAMES = ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "watch.json")


@pytest.fixture
def stopped(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints, of steps 2 and 4."""
    folder = RunFolder(str(tmp_path / "ad"))
    folder.begin(IDENTITY)
    for step in (2, 4):
        staged = folder.staging / f"checkpoint-{step}"
        staged.mkdir(parents=True)
        for name in NAMES:
            (staged / name).write_text(f"{name} {step}")
        (staged / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
        folder.commit(step, keep=2, best=None, seconds=1.0)
    return folder


def newest(folder: RunFolder) -> tuple[int, list[str]]:
    warnings: list[str] = []
    again = RunFolder(folder.name)
    saved = again.newest(warnings.append)
    assert saved is not None
    return saved.step, warnings


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "scaler.pt", "sub/adapter_model.bin"])
def test_a_checkpoint_with_a_file_more_is_not_read(stopped: RunFolder, name: str) -> None:
    path = stopped.checkpoints / "checkpoint-4" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("base weights")
    step, (warning,) = newest(stopped)
    assert step == 2
    assert "was not written by the run" in warning


def test_a_file_of_another_size_is_not_read_to_its_end(stopped: RunFolder) -> None:
    os.truncate(stopped.checkpoints / "checkpoint-4" / "optimizer.pt", 1 << 42)  # sparse: reading it would take an hour
    step, (warning,) = newest(stopped)
    assert (step, warning.rpartition(": ")[2]) == (2, "optimizer.pt has changed since it was written")


def change(folder: RunFolder, how: Callable[[dict[str, Any]], object]) -> None:
    path = folder.checkpoints / "state.json"
    state = json.loads(path.read_text())
    how(state["checkpoints"])
    path.write_text(json.dumps(state))


@pytest.mark.parametrize("name", [*NAMES, "trainer_state.json"])
def test_a_manifest_without_a_file_that_a_resume_needs_is_not_complete(stopped: RunFolder, name: str) -> None:
    (stopped.checkpoints / "checkpoint-4" / name).unlink()
    change(stopped, lambda checkpoints: checkpoints["checkpoint-4"]["files"].pop(name))
    assert newest(stopped)[0] == 2


def test_a_checkpoint_belongs_to_its_run_and_its_step(stopped: RunFolder) -> None:
    change(stopped, lambda checkpoints: checkpoints["checkpoint-4"].update(run="0" * 32))
    step, (warning,) = newest(stopped)
    assert (step, warning.rpartition(": ")[2]) == (2, "it belongs to another run")


def test_a_new_run_in_the_folder_removes_the_old_checkpoints_and_nothing_else(stopped: RunFolder) -> None:
    (stopped.checkpoints / "mine.txt").write_text("mine")
    folder = RunFolder(stopped.name)
    assert folder.check({"seed": 2}, restart=True) == "fresh"
    folder.begin({"seed": 2})
    assert sorted(content(folder.path)) == ["checkpoints/mine.txt", "checkpoints/state.json"]
    assert folder.known.checkpoints == {}


def test_a_process_that_died_between_the_steps_of_a_commit_leaves_nothing_unknown(stopped: RunFolder) -> None:
    place = stopped.checkpoints / "checkpoint-6"
    place.mkdir()
    (place / "optimizer.pt").write_text("x")
    entry = Entry(6, stopped.known.digest, {"optimizer.pt": "0"})
    RunState(IDENTITY, stopped.known.checkpoints, pending={"checkpoint-6": entry}).write(stopped.checkpoints / "state.json")
    folder = RunFolder(stopped.name)
    assert folder.check(IDENTITY) == "resume"
    folder.clear()
    assert not place.exists()
    assert paths(folder.known.checkpoints) == paths(stopped.known.checkpoints)


def merged_before(tmp_path: Path) -> Target:
    """An old merged model in its place, and a new one beside it."""
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text('{"old": 1}')
    (folder / "merge.json").write_text('{"files": ["config.json", "merge.json"]}')
    return Target(str(folder), overwrite=True)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_at_any_failing_rename_the_old_or_the_new_merged_model_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target, rename, calls = merged_before(tmp_path), os.replace, 0

    def full(*places: object) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(*places)  # type: ignore[arg-type]

    with target.writing() as part:
        part.mkdir()
        (part / "config.json").write_text('{"new": 1}')
        monkeypatch.setattr(os, "replace", full)
        if failing < 3:
            with pytest.raises(UnavailableError, match=r"merged: cannot be written: No space left on device$"):
                target.commit({})
        else:
            target.commit({})
    assert json.loads((tmp_path / "merged" / "config.json").read_text()) == ({"old": 1} if failing < 3 else {"new": 1})


def test_a_merged_model_with_a_file_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    merged_before(tmp_path)
    (tmp_path / "merged" / "thesis.txt").write_text("all my work")
    with pytest.raises(OutputError, match=r"did not write: thesis\.txt"):
        Target(str(tmp_path / "merged"), overwrite=True)
    (tmp_path / "merged" / "merge.json").write_text("{}")
    with pytest.raises(OutputError, match="holds no model of llmkit merge"):
        Target(str(tmp_path / "merged"), overwrite=True)


def test_ctrl_c_while_an_output_is_written_leaves_nothing_of_it(tmp_path: Path) -> None:
    from llmkit.jobs.output import Output

    def rows() -> Iterator[dict[str, object]]:
        yield {"text": "a"}
        raise KeyboardInterrupt

    with Output(str(tmp_path / "a.jsonl")) as output, pytest.raises(KeyboardInterrupt):
        output.commit(rows(), lambda sha256: {})
    assert [p.name for p in tmp_path.iterdir() if "lock" not in p.name] == []


def test_a_process_that_lost_another_says_so_and_no_other_error_is_taken_for_it() -> None:
    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:17797"
    for lost in (RuntimeError(gloo), torch.distributed.DistBackendError("NCCL error")):
        with pytest.raises(UnavailableError, match="another process"), Processes(count=2).meeting():
            raise lost
        with pytest.raises(RuntimeError), Processes().meeting():
            raise lost
    with pytest.raises(RuntimeError, match="shapes"), Processes(count=2).meeting():
        raise RuntimeError("shapes")
