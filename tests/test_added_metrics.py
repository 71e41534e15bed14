"""An installed package adds metrics and report formats; what we use of sacrebleu's private parts is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import sacrebleu
from conftest import Run

from llmkit.metrics import registry
from llmkit.metrics.statistics import Statistic, sacrebleu_metric, sacrebleu_units, sums_of
from llmkit.reports import formats

MODULE = """
from llmkit.metrics.base import Score, signature
from llmkit.metrics.registry import TextMetric


def _same_length(predictions, references, settings):
    hits = [any(len(p) == len(r) for r in refs) for p, refs in zip(predictions, references, strict=True)]
    return Score("same_length", 100 * sum(hits) / len(hits), signature(version="1"))


same_length = TextMetric(_same_length)
broken = 3


def to_ini(result):
    return "".join(f"{score.name} = {score.value:.1f}\\n" for score in result.scores)
"""
ENTRIES = """
[llmkit.metrics]
same-length = llmkit_added:same_length
broken = llmkit_added:broken
missing = llmkit_missing:nothing

[llmkit.reports]
ini = llmkit_added:to_ini
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with a metric and a report format, as an installer leaves it."""
    folder = tmp_path / "site"
    (folder / "llmkit_added-1.0.dist-info").mkdir(parents=True)
    (folder / "llmkit_added.py").write_text(MODULE)
    (folder / "llmkit_added-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: llmkit-added\nVersion: 1.0\n")
    (folder / "llmkit_added-1.0.dist-info" / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    for known in (registry._added, formats._added):
        known.cache_clear()
    yield
    for known in (registry._added, formats._added):
        known.cache_clear()
    sys.modules.pop("llmkit_added", None)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("the cat sat on the mat\na dog\n")
    return path


@pytest.mark.usefixtures("package")
def test_an_installed_package_adds_a_metric_and_a_report_format(run: Run, text: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.ini"
    command = ["evaluate", "score", "--metrics", "same_length,exact_match", "-p", text, "-r", text, "--report", report, "--json"]
    ran = run(*command, "--fail-if", "same_length < 0.5")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scores"] == {"same_length": 100, "exact_match": 100}
    assert report.read_text() == "same_length = 100.0\nexact_match = 100.0\n"
    assert "not 50%" in ran.err


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["broken", "missing"])
def test_a_broken_package_is_named(run: Run, text: Path, name: str) -> None:
    ran = run("evaluate", "score", "--metrics", name, "-p", text, "-r", text)
    assert ran.code == 5
    assert name in ran.err


@pytest.mark.parametrize("kind", ["bleu", "chrf", "ter"])
def test_the_private_parts_of_sacrebleu_count_as_its_public_ones(kind: str) -> None:
    predictions = ["the cat sat on the mat", "a dog ran to the old house", "it rained"]
    streams = [["the cat sat on a mat", "the dog ran to an old house", "it rained all day"]]
    metric = sacrebleu_metric(kind, {})
    units = sacrebleu_units(metric, predictions, streams)
    assert Statistic(kind)(sums_of(units))[0] == metric.corpus_score(predictions, streams).score
    assert sacrebleu.__version__.split(".")[0] == "2"


def test_junit_has_what_the_schemas_of_ant_and_jenkins_ask_for(run: Run, text: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    ran = run("evaluate", "bleu", "-p", text, "-r", text, "--report", report, "--fail-if", "bleu > 1", "--fail-if", "bleu < 1")
    assert ran.code == 4
    suite = Xml.parse(report).getroot()
    assert set(suite.attrib) == {"name", "timestamp", "hostname", "tests", "failures", "errors", "time"}
    assert [child.tag for child in suite] == ["properties", "testcase", "testcase", "testcase", "system-out", "system-err"]
    assert len(suite.attrib["timestamp"]) == len("2026-01-01T00:00:00")
    assert all(float(case.attrib["time"]) >= 0 for case in suite.iter("testcase"))
    assert [failure.attrib["type"] for failure in suite.iter("failure")] == ["gate"]


def test_the_page_fits_a_phone_and_a_dark_screen(run: Run, text: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    assert run("evaluate", "bleu", "-p", text, "-r", text, "--report", report, "-q").code == 0
    page = report.read_text()
    for part in ('name="viewport"', "color-scheme: light dark", "prefers-color-scheme: dark", "auto-fit"):
        assert part in page
