"""A lock holds for one process at a time, whatever the order in which processes take and leave it, and is no file of a user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, write_rows

from llmkit.errors import OutputError
from llmkit.files import acquire, companion


def test_who_comes_after_a_lock_was_left_is_refused_by_the_one_who_took_it(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    first = acquire(out, "out.jsonl")
    place = companion(out, "llmkit-lock", hidden=True)
    file = place.stat().st_ino
    first.release()
    second = acquire(out, "out.jsonl")
    first.release()  # the first one's cleaning up, late
    assert place.stat().st_ino == file
    with pytest.raises(OutputError, match="is writing it now"):
        acquire(out, "out.jsonl")
    second.release()
    acquire(out, "out.jsonl").release()


def test_one_process_reads_and_another_takes_the_lock_that_is_left_between(tmp_path: Path) -> None:
    """However many come and go, one holds it: each must see the file of the one before."""
    out = tmp_path / "out.jsonl"
    for _ in range(5):
        held = acquire(out, "out.jsonl")
        for _ in range(2):
            with pytest.raises(OutputError, match="is writing it now"):
                acquire(out, "out.jsonl")
        held.release()


@pytest.mark.parametrize("content", ["a lock file of another tool\n", "", "4711", "[[package]]\nname = 'x'\n"])
@pytest.mark.parametrize("end", ["it finishes", "it is refused"])
def test_a_users_lock_file_beside_a_result_of_that_name_is_kept(run: Run, tmp_path: Path, gpt2: Path, content: str, end: str) -> None:
    rows = write_rows(tmp_path / "train.jsonl", [{"text": "the king lived in a house"}] * 4)
    users = tmp_path / "poetry.lock"
    users.write_text(content)
    before = users.stat()
    steps = "1" if end == "it finishes" else "0"
    ran = run("finetune", rows, "-m", gpt2, "-o", tmp_path / "poetry", "--max-steps", steps)
    assert ran.code == (0 if end == "it finishes" else 2), ran.err
    assert (users.read_text(), users.stat().st_mtime_ns, users.stat().st_ino) == (content, before.st_mtime_ns, before.st_ino)


def test_a_users_lock_file_beside_an_output_of_that_name_is_kept(run: Run, tmp_path: Path, gpt2: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a"}])
    (tmp_path / "x.jsonl.lock").write_text("keep")
    assert run("generate", "-i", rows, "-m", gpt2, "-o", tmp_path / "x.jsonl", "--max-new-tokens", "1").code == 0
    assert (tmp_path / "x.jsonl.lock").read_text() == "keep"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has such a file system")
def test_a_place_that_takes_no_files_is_said(run: Run, texts: Path) -> None:
    ran = run("generate", "-i", texts, "-o", "/proc/out.jsonl", "-m", "builtin:stories")
    assert ran.code == 2
    assert "/proc/out.jsonl" in ran.err
