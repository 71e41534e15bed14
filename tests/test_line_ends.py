"""A carriage return alone ends a line, and where that moves rows it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "h.txt", tmp_path / "r.txt"


@pytest.mark.parametrize(("reference", "line"), [(b"How are you \r doing today?", 1), (b"Hello!\nHow are you\r doing?\n", 2)])
def test_files_of_different_length_name_the_carriage_return(run: Run, files: tuple[Path, Path], reference: bytes, line: int) -> None:
    hypotheses, references = files
    hypotheses.write_bytes(b"How are you doing today?\n" * line)
    references.write_bytes(reference)
    ran = run("evaluate", "bleu", "-p", hypotheses, "-r", references)
    assert ran.code == 2
    assert f"in {references} line {line} ends with a carriage return (CR) alone" in ran.err


def test_a_carriage_return_among_line_feeds_is_warned_about(run: Run, files: tuple[Path, Path]) -> None:
    for path in files:
        path.write_bytes(b"One.\nTwo\r and three.\nFour.\n")
    ran = run("evaluate", "bleu", "-p", files[0], "-r", files[1])
    assert ran.code == 0
    assert f"{files[0]}, line 2: this line ends with a carriage return (CR)" in ran.err


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n"])
def test_line_ends_of_one_kind_are_not_remarked_on(run: Run, files: tuple[Path, Path], end: bytes) -> None:
    for path in files:
        path.write_bytes(end.join([b"One.", b"Two.", b""]))
    ran = run("evaluate", "bleu", "-p", files[0], "-r", files[1])
    assert ran.code == 0
    assert "carriage return" not in ran.err
