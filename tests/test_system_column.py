"""Beside a source, the column `system` names a system of translation, as in WMT's data; elsewhere it is a system message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, write_rows

from llmkit.rows.fields import DocumentFields, PromptFields, SourceFields
from llmkit.rows.reading import Row
from llmkit.rows.samples import SampleFields

#: Writes the system message, where there is one.
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.mark.parametrize("one", [{"source": "Guten Tag", "reference": "Hello"}, {"translation": {"de": "Guten Tag", "en": "Hello"}}])
def test_a_system_column_beside_a_source_names_the_system_that_translated_it(one: dict[str, Any]) -> None:
    """As in WMT's rows, and in training; `generate --prompt-field source` is asked to read the column."""
    wmt = Row(0, 7, {**one, "hypothesis": "Good day", "system": "Online-B"})
    asked = SourceFields().prompt(wmt, "r.jsonl")
    assert (asked.text, asked.system, asked.unused) == ("Guten Tag", None, ("system",))
    ((before, _),) = DocumentFields(completion_only=True).spans(wmt, "r.jsonl")
    assert before is not None
    assert before.system is None
    trained = Row(0, 7, {"source": "Guten Tag", "target": "Hello", "system": "Online-B"}) if "source" in one else wmt
    assert SampleFields().sample(trained, "r.jsonl").messages is None
    if "source" in one:
        assert PromptFields(field="source").prompt(wmt, "r.jsonl").system == "Online-B"


def test_a_model_that_translates_wmts_rows_does_not_read_who_else_did(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    answers = []
    for name, wmt in (("with", {"system": "Online-B", "hypothesis": "x"}), ("without", {})):
        rows = write_rows(tmp_path / f"{name}.jsonl", [{"source": "Once upon a", "reference": "time", **wmt}])
        template, output = ("--chat-template", tmp_path / "t.jinja"), ("-o", tmp_path / f"{name}.out.jsonl")
        ran = run("evaluate", "score", "-m", "builtin:stories", *template, "-i", rows, "--max-new-tokens", "9", *output)
        assert ran.code == 0, ran.err
        assert ("the column 'system' beside a source names a translator" in ran.err) == bool(wmt)
        answers.append(json.loads((tmp_path / f"{name}.out.jsonl").read_text()))
    assert answers[0]["prediction"] == answers[1]["prediction"]
    assert answers[0]["prompt_tokens"] == answers[1]["prompt_tokens"]
