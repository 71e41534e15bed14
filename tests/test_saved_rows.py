"""Saved outputs in rows: which field is meant, what a row is called, and result files that someone has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, write_rows

from llmkit.errors import InputError, RowError
from llmkit.jobs.table import Table
from llmkit.metrics.base import Example, Result, Score
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.pairing import comparisons
from llmkit.metrics.statistics import Statistic, mean_units
from llmkit.reports.figures import figure
from llmkit.rows import Row
from llmkit.rows.base import TableForm
from llmkit.rows.saved import prediction, references

SCORE = ("evaluate", "score", "--metrics", "exact_match")


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_rows_with_blank_ids_are_numbered(run: Run, tmp_path: Path, blank: str | None) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"id": blank, "prediction": t, "reference": t} for t in "ab"])
    assert run(*SCORE, "-i", rows, "--report", tmp_path / "r.json").code == 0
    assert json.loads((tmp_path / "r.json").read_text())["ids"] == ["1", "2"]


def test_an_id_that_is_another_rows_number_is_explained(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prediction": "a", "reference": "a"}, {"id": 1, "prediction": "b", "reference": "b"}])
    ran = run(*SCORE, "-i", rows)
    assert ran.code == 2
    assert "rows 1 and 2 have the same id '1'" in ran.err
    assert "a row without an id is called by its number" in ran.err


@pytest.mark.parametrize(
    "row",
    [
        {"reference": "x", "references": ["y"]},
        {"target": "x", "answer": "y"},
        {"reference": "x", "answers": {"text": ["y"], "answer_start": [0]}},
    ],
)
def test_two_fields_that_could_be_the_reference_are_asked_about(run: Run, tmp_path: Path, row: dict[str, Any]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prediction": "x"} | row])
    ran = run(*SCORE, "-i", rows)
    assert ran.code == 2
    assert "could both be the reference" in ran.err
    assert "--reference-field" in ran.err
    assert run(*SCORE, "-i", rows, "--reference-field", next(iter(row))).code == 0


@pytest.mark.parametrize("other", ["x", None, "", 5])
def test_fields_that_say_no_other_reference_are_not_asked_about(run: Run, tmp_path: Path, other: object) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prediction": "x", "references": ["y", "x"], "answer": other}])
    ran = run(*SCORE, "-i", rows, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scores"] == {"exact_match": 100.0}


def test_a_prediction_that_is_no_text_is_named_with_its_kind(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"predictions": ["a", "b"], "reference": "a"}])
    assert "field 'predictions' is a list; text expected" in run(*SCORE, "-i", rows).err


def test_outputs_score_the_same_from_a_table_as_from_json_lines(run: Run, tmp_path: Path) -> None:
    """In a table, a text that a spreadsheet would run has an apostrophe before it."""
    texts = ["- Bonjour.", "=1+1", "-5", "'tis", "+1", "@x"]
    rows = [{"reference": t, "translation": t[1:], "finish_reason": "eos"} for t in texts]
    rows += [{"reference": "- Oui, je viens.", "translation": "- Oui, je viens.", "finish_reason": "eos"}]
    table = tmp_path / "out.csv"
    table.write_bytes(b"".join(Table(TableForm("csv", ","))(rows, "translation")))
    assert "'- Bonjour." in table.read_text()
    found = [run(*SCORE[:3], "chrf,exact_match", "-i", path, "--json").out for path in (table, write_rows(tmp_path / "out.jsonl", rows))]
    assert json.loads(found[0])["scores"] == json.loads(found[1])["scores"]
    table.write_text("prediction,reference\n'-ism,'-ism\n'-ism,-ism\n")  # a table of someone else's
    assert json.loads(run(*SCORE, "-i", table, "--json").out)["scores"] == {"exact_match": 50.0}


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.json.gz", "OUT.TSV"])
def test_rows_are_not_scored_as_lines_of_text(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "lines.txt").write_text("the king\n")
    write_rows(tmp_path / name, [{"text": "the king"}])
    for files in (("-p", tmp_path / name, "-r", tmp_path / "lines.txt"), ("-p", tmp_path / "lines.txt", "-r", tmp_path / name)):
        ran = run(*SCORE, *files)
        assert (ran.code, ran.out) == (2, "")
        assert f"{name} holds rows, and -p and -r are lines of text" in ran.err


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [
        ("references", '["Roma", "Rome"]', ("Roma", "Rome")), ("answers", '{"text": ["Rome"], "answer_start": [3]}', ("Rome",)),
        ("answers", '{"text": [], "answer_start": []}', ("",)), ("answers", '[{"text": "Rome"}]', ("Rome",)),
        ("references", "[sighs] Rome", ("[sighs] Rome",)), ("answers", "[1, 2]", ("[1, 2]",)), ("reference", '["a"]', ('["a"]',)),
    ],
)  # fmt: skip
def test_a_table_has_several_references_as_json(name: str, cell: str, expected: tuple[str, ...]) -> None:
    assert references(Row(0, 1, {"prediction": "Rome", name: cell}), "rows.csv") == expected


@pytest.mark.parametrize("cell", ["['Roma', 'Rome']", "['Roma' 'Rome']", "{'text': array(['Rome'], dtype=object)}", "[ 'Rome' ]"])
def test_a_list_as_python_prints_it_is_no_reference(cell: str) -> None:
    with pytest.raises(RowError, match="is a list as Python prints it"):
        references(Row(0, 1, {"prediction": "Rome", "references": cell}), "rows.csv")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({"prediction": None}, "field 'prediction' is null; text expected"),
        ({"predictions": ["a", "b"]}, "field 'predictions' is a list; text expected"),
        ({"translation": None, "error": "out of memory"}, "the row has no prediction, but an error: out of memory"),
        ({"translation": "", "error": "out of memory"}, "the row has no prediction, but an error: out of memory"),
        ({"error": "out of memory"}, "the row has no prediction, but an error: out of memory"),
    ],
)
def test_a_row_without_an_answer_is_not_scored_by_its_source(rest: dict[str, Any], said: str) -> None:
    row = Row(0, 1, {"text": "the source", "reference": "the source"} | rest)
    with pytest.raises(RowError, match=said):
        prediction(row, "rows.jsonl")


@pytest.mark.parametrize("rest", [{}, {"error": None}, {"error": ""}, {"translation": {"en": "a", "fr": "b"}}])
def test_text_is_the_prediction_where_nothing_else_is(rest: dict[str, Any]) -> None:
    assert prediction(Row(0, 1, {"text": "an answer", "reference": "it"} | rest), "rows.jsonl") == "an answer"
    assert prediction(Row(0, 1, {"text": "an answer", "error": "a word of its own"} | rest), "rows.jsonl", "text") == "an answer"


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("made", "bleu", "statistic", "columns", to=[0, 50]),
        _set("made", "bleu", "statistic", "columns", to=[-1, 0]),
        _set("made", "bleu", "statistic", "options", to={"foo": 1}),
        _set("made", "bleu", "statistic", "options", to={"smooth_method": "nope"}),
        _set("signatures", "bleu", to=5),
        _set("scores", "bleu", to=None),
        _set("units", 0, 0, to=[1.0]),
        _set("parts", to={"a": 3}),
    ],
)
def test_a_result_that_was_changed_is_no_result(run: Run, tmp_path: Path, change: Callable[[Any], None]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prediction": t, "reference": t} for t in ("a b c d", "b c d e")])
    result = tmp_path / "r.json"
    assert run("evaluate", "bleu", "-i", rows, "--report", result).code == 0
    content = json.loads(result.read_text())
    change(content)
    result.write_text(json.dumps(content))
    ran = run("evaluate", "bleu", "-i", rows, "--baseline", result)
    assert ran.code == 2, ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("kind", "values", "low", "high"),
    [
        ("log", [-0.1, -5.0], -np.inf, 0),
        ("exp", [-0.1, -5.0], 1, np.inf),
        ("bits", [-0.1, -5.0], 0, np.inf),
    ],
)
def test_an_interval_lies_where_the_score_can(kind: str, values: list[float], low: float, high: float) -> None:
    """Two rows have intervals so wide that perplexities would fall below 1."""
    found = interval_of(mean_units(values), Statistic(kind))
    assert found is not None
    assert low <= found[0] < found[1] <= high
    assert low in found or high in found


def test_an_id_that_this_run_has_twice_is_not_paired_with_one_row_twice() -> None:
    units = mean_units([0.0, 100.0])
    score = Score("accuracy", 50.0, "s", units=units, statistic=Statistic("proportion"))
    before, now = (Result((score,), 2, examples=tuple(Example(i, "same") for i in ids)) for ids in ("12", "11"))
    with pytest.raises(InputError, match="id '1' occurs twice in now"):
        comparisons(before, now, "before", "now")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.50"), (999_999_999_999.0, "999,999,999,999.00"), (4.06e30, "4.060e+30"), (np.inf, "inf")]
)
def test_a_number_without_end_is_a_power_of_ten(value: float, shown: str) -> None:
    assert figure(value, 80.0) == shown


def test_rows_that_could_not_be_scored_are_said_with_the_option_that_helps(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": None}, {"text": 5}])
    ran = run("evaluate", "perplexity", "-i", rows, "-q")
    assert ran.code == 2
    assert "field 'text' is null; text expected" in ran.err
    assert "name another field with --text-field" in ran.err
    assert "none of its 2 rows could be scored" in ran.err
