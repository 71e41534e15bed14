"""What the registries hold is named where users look for it: in the help of the option that chooses it, and in the guide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Run

from llmkit.cli.options import OUTPUT_FORMATS
from llmkit.engines import registry as engines
from llmkit.jobs import output
from llmkit.jobs.openai_batch import NAME
from llmkit.metrics import registry as metrics
from llmkit.reports import formats as reports
from llmkit.translation.documents import formats as documents
from llmkit.translation.families import FAMILIES

GUIDE = (Path(__file__).parent.parent / "docs" / "translate.md").read_text()


def help_of(run: Run, option: str, *command: str) -> set[str]:
    """The words of an option's help."""
    entries = re.split(r"\n +(?=-)", run(*command, "--help-all").out)
    (found,) = (entry for entry in entries if re.match(rf"(-\w+, )?{option} ", entry))
    return set(re.findall(r"[\w.-]*\w", found))


def test_help_names_each_metric(run: Run) -> None:
    families = {member: name for name, members in metrics._FAMILIES.items() for member in members}
    assert help_of(run, "--metrics", "evaluate", "score") >= {families.get(name, name) for name in metrics._OURS}


def test_help_names_each_report(run: Run) -> None:
    assert help_of(run, "--report", "evaluate", "score") >= set(reports._OURS)


def test_help_names_each_engine_that_has_no_references_of_its_own(run: Run) -> None:
    assert help_of(run, "--engine", "generate") >= {kind.name for kind in engines._BUILT_IN if not kind.prefixes}


def test_help_names_each_format_of_answers(run: Run) -> None:
    assert help_of(run, "--output", "generate") >= set(output._SHOWN)
    assert set(OUTPUT_FORMATS) == {"auto", NAME, *output.FORMAT_NAMES}


@pytest.mark.parametrize("command", ["perplexity", "choice", "score"])
def test_help_offers_scored_rows_no_other_format_and_no_standard_output(run: Run, command: str) -> None:
    assert help_of(run, "--output", "evaluate", command) >= {".jsonl"}
    assert help_of(run, "--output", "evaluate", command).isdisjoint({".txt", ".csv", ".tsv", "stdout"})


def test_the_guide_names_each_document_format_and_each_family_of_translation_models() -> None:
    assert set(re.findall(r"\.\w+", GUIDE)) >= set(documents.FORMATS) - {".markdown", ".htm", ".ssa"}
    for name in FAMILIES:
        assert name.lower() in GUIDE.lower()
