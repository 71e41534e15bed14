"""Folders of earlier versions and of other processes: named, left as they are, and replaced only on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, write_rows

from llmkit.files import locked, part_of
from llmkit.training.merge import Target


@pytest.fixture
def command(tmp_path: Path, gpt2: Path) -> list[str]:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"the king {i}"} for i in range(6)])
    return ["finetune", str(rows), "-m", str(gpt2), "--max-steps", "2", "-q", "-o", str(tmp_path / "ad")]


def first_format(folder: Path, **more: Any) -> None:
    """An unfinished run of the first format, with a checkpoint of two files of which its manifest lists one."""
    saved = folder / "checkpoints" / "checkpoint-5"
    saved.mkdir(parents=True)
    for path in (saved / "optimizer.pt", saved / "notes.txt", folder / "metrics.jsonl"):
        path.write_text(path.name)
    state = {"format": 1, "identity": {"seed": 1}, "checkpoints": {"checkpoint-5": {"optimizer.pt": "0" * 64}}, **more}
    (folder / "checkpoints" / "state.json").write_text(json.dumps(state))


def test_a_run_that_an_earlier_version_began_is_named_and_stays(run: Run, tmp_path: Path, command: list[str]) -> None:
    first_format(tmp_path / "ad")
    for more in ([], ["--overwrite"]):
        done = run(*command, *more)
        assert done.code == 2
        assert "its run was started by an earlier version of llmkit" in done.err
        assert "--restart starts over" in done.err
    assert (tmp_path / "ad" / "checkpoints" / "checkpoint-5" / "optimizer.pt").exists()


def test_restart_removes_of_an_earlier_versions_run_only_what_its_manifest_lists(run: Run, tmp_path: Path, command: list[str]) -> None:
    first_format(tmp_path / "ad")
    done = run(*command, "--restart")
    saved = tmp_path / "ad" / "checkpoints" / "checkpoint-5"
    assert done.code == 2
    assert "checkpoint-5: not written by this run" in done.err
    assert sorted(p.name for p in saved.iterdir()) == ["notes.txt"]
    (saved / "notes.txt").unlink()
    saved.rmdir()
    assert run(*command, "--restart").code == 0


@pytest.mark.parametrize("checkpoints", [3, ["checkpoint-5"], {"checkpoint-5": 3}, {"checkpoint-5": {"optimizer.pt": 1}}])
def test_a_damaged_manifest_of_the_first_format_is_refused_by_name(
    run: Run, tmp_path: Path, command: list[str], checkpoints: object
) -> None:
    first_format(tmp_path / "ad", checkpoints=checkpoints)
    done = run(*command, "--restart")
    assert done.code == 2
    assert "state.json: damaged" in done.err


@pytest.mark.parametrize("name", ["README.md", "run.json", "adapter_model.safetensors"])
def test_a_file_where_the_result_goes_is_named_before_anything_is_trained(run: Run, tmp_path: Path, command: list[str], name: str) -> None:
    first_format(tmp_path / "ad")
    (tmp_path / "ad" / name).write_text("mine")
    done = run(*command, "--restart")
    assert done.code == 2
    assert f"{name}: something else is in the place of a file of the result" in done.err
    assert (tmp_path / "ad" / name).read_text() == "mine"
    assert (tmp_path / "ad" / "checkpoints" / "checkpoint-5" / "optimizer.pt").exists()


def test_a_second_merge_into_the_same_folder_is_refused(run: Run, tmp_path: Path, command: list[str]) -> None:
    assert run(*command).code == 0
    target = Target(str(tmp_path / "merged"), overwrite=False)
    with target.writing():
        second = run("merge", tmp_path / "ad", "-o", tmp_path / "merged")
        assert second.code == 2
        assert "is writing it now" in second.err
    assert run("merge", tmp_path / "ad", "-o", tmp_path / "merged").code == 0


def test_a_released_lock_is_not_taken_by_two(tmp_path: Path) -> None:
    """The file of a lock stays, so that whoever waits for it and whoever comes later lock the same file."""
    from llmkit.errors import OutputError

    folder = tmp_path / "out"
    with locked(folder, "out"):
        pass
    with locked(folder, "out"), pytest.raises(OutputError, match="process"), locked(folder, "out"):
        pytest.fail("locked twice")


@pytest.mark.parametrize("left", [None, "", '{"format": 2, "iden'])
def test_a_run_goes_into_the_folder_of_one_that_was_killed_before_it_had_a_state(
    run: Run, tmp_path: Path, command: list[str], left: str | None
) -> None:
    checkpoints = tmp_path / "ad" / "checkpoints"
    checkpoints.mkdir(parents=True)
    if left is not None:
        part_of(checkpoints / "state.json").write_text(left)
    done = run(*command)
    assert done.code == 0, done.err
    assert not part_of(checkpoints / "state.json").exists()
