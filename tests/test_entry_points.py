"""One installed package adds an engine, a document format, an output format, a metric and a report: each is found by its registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
from llmkit.engines.base import Capabilities, EngineKind
from llmkit.metrics.base import Score, signature
from llmkit.metrics.registry import TextMetric
from llmkit.translation.documents.base import Marks, Segment


class Lines:
    def __init__(self, data):
        self.segments = [Segment(line, line, number) for number, line in enumerate(data.decode().splitlines(), 1)]
        self.keep = Marks(self.segments)

    def build(self, translations):
        return "".join((t or s.text) + "\\\\n" for t, s in zip(translations, self.segments)).encode()


def parse(data, name, target=None):
    return Lines(data)


def shouted(rows, answer):
    for row in rows:
        yield (str(row.get(answer)).upper() + "\\\\n").encode()


words = TextMetric(lambda p, r, s: Score("words", float(sum(len(x.split()) for x in p)), signature(version="1")))


def to_ini(result):
    return "".join(f"{score.name} = {score.value:.0f}\\\\n" for score in result.scores)


def open_engine(settings, **_):
    from llmkit.errors import UnavailableError

    raise UnavailableError(f"the echo engine was asked for {settings.reference}")


ENGINE = EngineKind("echo", Capabilities(streaming=True), "llmkit_kinds:open_engine", prefixes=("echo:",))
""".replace("\\\\", "\\")
ENTRIES = """
[llmkit.engines]
echo = llmkit_kinds:ENGINE
[llmkit.documents]
lines = llmkit_kinds:parse
[llmkit.outputs]
shout = llmkit_kinds:shouted
[llmkit.metrics]
words = llmkit_kinds:words
[llmkit.reports]
ini = llmkit_kinds:to_ini
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with one that adds one of each."""
    folder = tmp_path / "site"
    (folder / "llmkit_kinds-1.0.dist-info").mkdir(parents=True)
    (folder / "llmkit_kinds.py").write_text(MODULE)
    (folder / "llmkit_kinds-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: llmkit-kinds\nVersion: 1.0\n")
    (folder / "llmkit_kinds-1.0.dist-info" / "entry_points.txt").write_text(ENTRIES)
    return folder


def test_each_kind_is_found_by_its_name_or_ending(site: Path, tmp_path: Path) -> None:
    (tmp_path / "a.lines").write_text("Good morning.\nThank you.\n")
    (tmp_path / "p.txt").write_text("Once upon a time\n")
    script = tmp_path / "script.py"
    script.write_text(
        """
from llmkit.cli.app import run
assert run(["translate", "-i", "a.lines", "-o", "b.lines", "--to", "fr", "-q"]) == 0
assert run(["generate", "-i", "p.txt", "-o", "o.shout", "--max-new-tokens", "3", "-q"]) == 0
assert run(["evaluate", "score", "--metrics", "words", "-p", "p.txt", "-r", "p.txt", "--report", "r.ini", "-q"]) == 0
assert run(["generate", "-m", "echo:x", "hello", "-q"]) == 5
"""
    )
    path = os.pathsep.join([str(site), str(Path(__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.lines").read_text() == "Bonjour.\nMerci.\n"
    shouted = (tmp_path / "o.shout").read_text()
    assert shouted == shouted.upper() != ""
    assert (tmp_path / "r.ini").read_text() == "words = 4\n"
    assert "the echo engine was asked for echo:x" in done.stderr
