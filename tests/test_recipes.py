"""The recipes for many files do what their page says: run twice, as people run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
TALK = "1\n00:00:01,000 --> 00:00:02,000\nGood morning.\n"


def recipe(word: str) -> str:
    """The one line of the page's shell examples that has `word`."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (line,) = (line for block in blocks for line in block.splitlines() if word in line)
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of talks and pages."""
    for name, text in (("talks/a b.srt", TALK), ("docs/guide/page.md", "# Good morning.\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of the page with this environment's llmkit."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **variables}
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("word", "runs", "made"),
    [("find talks", 2, {"talks/a b.srt.fr.srt": "Bonjour."}), ("find docs", 1, {"fr/docs/guide/page.md": "# Bonjour."})],
)
def test_many_files_are_translated_and_no_translation_again(folder: Path, word: str, runs: int, made: dict[str, str]) -> None:
    for _ in range(runs):
        done = shell(recipe(word), folder)
        assert done.returncode == 0, done.stderr
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".srt", ".md")}
    assert files == {"talks/a b.srt", "docs/guide/page.md", *made}
    for name, text in made.items():
        assert text in (folder / name).read_text()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_translates_each_file_once_and_takes_no_failed_file_for_finished(folder: Path) -> None:
    (makefile,) = re.findall(r"```make\n(.*?)```", PAGE, re.DOTALL)
    (folder / "Makefile").write_text(makefile)
    (folder / "talks" / "a b.srt").rename(folder / "talks" / "a.srt")
    assert "translate -i talks/a.srt" in shell("make", folder).stdout
    assert "Nothing to be done" in shell("make", folder).stdout
    (folder / "talks" / "b.srt").write_text(TALK)
    failed = shell("make", folder, LLMKIT_MAX_NEW_TOKENS="1")  # the answer is cut, which is exit code 3
    assert "Error 3" in failed.stderr
    assert not (folder / "talks" / "b.fr.srt").exists()
    assert shell("make", folder).returncode == 0
    assert "Bonjour." in (folder / "talks" / "b.fr.srt").read_text()
