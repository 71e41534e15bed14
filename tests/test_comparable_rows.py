"""Two numbers are compared only when the same rows were scored in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Ran, Run, write_rows

from llmkit.errors import InputError
from llmkit.metrics.base import Example, Result, Score, row_digest, same_row
from llmkit.metrics.overlap import OverlapSettings, bleu, chrf
from llmkit.metrics.pairing import comparisons

Fields = Mapping[str, object]
WORDS = ["The boy ran home.", "She opened the window.", "They walked along the river."]
FLOOR = OverlapSettings(smooth_method="floor", smooth_value=0.001)
OTHERS = ["The boy ran home.", "She opened the door.", "They walked along the river."]


def refused(run: Run, tmp_path: Path, command: Sequence[object], one: Sequence[Fields], other: Sequence[Fields]) -> None:
    """The other rows are refused as such, and the same rows in another file are not."""
    base = tmp_path / "base.json"
    assert run("evaluate", *command, "-i", write_rows(tmp_path / "one.jsonl", [*map(dict, one)]), "--report", base, "-q").code == 0
    again = run("evaluate", *command, "-i", write_rows(tmp_path / "same.jsonl", [*map(dict, one)]), "--baseline", base)
    assert again.code == 0, again.err
    ran = run("evaluate", *command, "-i", write_rows(tmp_path / "other.jsonl", [*map(dict, other)]), "--baseline", base)
    assert ran.code == 2
    assert "must score the same rows" in ran.err


def test_the_text_of_any_field_makes_the_row(run: Run, tmp_path: Path) -> None:
    refused(run, tmp_path, ["perplexity", "--text-field", "body"], [{"body": t} for t in WORDS], [{"body": t} for t in OTHERS])


def test_a_prompt_before_the_completion_makes_the_row(run: Run, tmp_path: Path) -> None:
    one = [{"prompt": t, "completion": " Then it rained."} for t in WORDS]
    other = [{"prompt": t, "completion": " Then it rained."} for t in OTHERS]
    refused(run, tmp_path, ["perplexity"], one, other)
    refused(run, tmp_path, ["perplexity", "--completion-only"], one, other)


def test_the_messages_before_a_turn_make_the_row(run: Run, tmp_path: Path, llama: Path) -> None:
    def chat(text: str) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]}

    refused(run, tmp_path, ["perplexity", "-m", llama, "--completion-only"], [chat(t) for t in WORDS], [chat(t) for t in OTHERS])


def test_the_source_of_a_translation_makes_the_row(run: Run, tmp_path: Path) -> None:
    one = [{"translation": {"en": t, "fr": "Il pleut."}} for t in WORDS]
    other = [{"translation": {"en": t, "fr": "Il pleut."}} for t in OTHERS]
    refused(run, tmp_path, ["perplexity", "-m", "builtin:en-fr"], one, other)


def test_the_premise_of_a_saved_output_makes_the_row(run: Run, tmp_path: Path) -> None:
    one = [{"prompt": t, "prediction": "yes", "reference": "yes"} for t in WORDS]
    other = [{"prompt": t, "prediction": "yes", "reference": "yes"} for t in OTHERS]
    refused(run, tmp_path, ["score", "--metrics", "exact_match"], one, other)


@pytest.mark.parametrize("change", [{"choices": ["honey", "wax"]}, {"question": "What do cows make?"}, {"answer": 1}, {"topic": "cows"}])
def test_all_choices_and_what_the_template_reads_make_the_row(run: Run, tmp_path: Path, change: dict[str, object]) -> None:
    row: dict[str, object] = {"topic": "bees", "question": "What do bees make?", "choices": ["honey", "stone"], "answer": 0}
    refused(run, tmp_path, ["choice", "--template", "About {topic}. {question}"], [row], [row | change])


def test_a_source_that_only_one_side_knows_does_not_part_rows() -> None:
    assert same_row(row_digest(["a"]), row_digest(["a"], "asked"))
    assert not same_row(row_digest(["a"], "asked"), row_digest(["a"], "asked otherwise"))
    assert not same_row(row_digest(["a"]), row_digest(["b"], "asked"))


def test_the_chat_template_is_in_the_signature(run: Run, llama: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "q.jsonl", [{"question": "Who?", "choices": ["king", "queen"], "answer": 0}])
    results = []
    for template in ("none", "auto"):
        results.append(tmp_path / f"{template}.json")
        command = ["choice", "-m", llama, "-i", rows, "--chat-template", template, "--report", results[-1], "-q"]
        assert run("evaluate", *command).code == 0
    signs = [json.loads(path.read_text())["signatures"]["accuracy"] for path in results]
    assert "bos:yes|chat:none|delimiter:space|context:256" in signs[0]
    assert "bos:template|chat:" in signs[1]
    assert "delimiter:none" in signs[1]
    ran = run("evaluate", "compare", *results)
    assert ran.code == 2
    assert "two different signatures" in ran.err


def test_bos_is_the_tokenizers_own_rule_and_said(run: Run, gpt2: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "q.jsonl", [{"question": "Who?", "choices": ["king", "queen"], "answer": 0}])
    found = json.loads(run("evaluate", "choice", "-m", gpt2, "-i", rows, "--json", "-q").out)
    assert "bos:no" in found["signatures"]["accuracy"]


def test_results_under_old_names_are_read(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "q.jsonl", [{"question": "Who?", "choices": ["the king", "xx"], "answer": 0}])
    base = tmp_path / "base.json"
    assert run("evaluate", "choice", "-i", rows, "--report", base, "-q").code == 0
    base.write_text(base.read_text().replace("accuracy_normalized", "accuracy_normalised"))
    ran = run("evaluate", "choice", "-i", rows, "--baseline", base, "--fail-if", "accuracy_normalised < 0", "--test", "auto")
    assert ran.code == 0, ran.err
    assert "accuracy_normalized: " in ran.err


def two_rows(score: Score) -> Result:
    return Result((score,), 2, examples=(Example("1", "x"), Example("2", "y")))


@pytest.mark.parametrize(
    ("metric", "option", "one", "other"),
    [
        (chrf, "chrf_beta", OverlapSettings(), OverlapSettings(chrf_beta=3)),
        (bleu, "smooth_value", FLOOR, replace(FLOOR, smooth_value=0.004)),
    ],
)
def test_options_that_sacrebleus_signature_does_not_tell_apart_make_other_scores(
    metric: Callable[..., Score], option: str, one: OverlapSettings, other: OverlapSettings
) -> None:
    results = [two_rows(metric(["a b c d"] * 2, [["a b c e"]] * 2, settings)) for settings in (one, other)]
    assert results[0].scores[0].signature == results[1].scores[0].signature
    with pytest.raises(InputError, match=f"another `{option}`"):
        comparisons(results[0], results[1], "base.json", "this run")


def test_a_default_that_is_spelled_out_is_the_same_option() -> None:
    settings = OverlapSettings(smooth_method="add-k"), OverlapSettings(smooth_method="add-k", smooth_value=1, tokenize="13a")
    results = [two_rows(bleu(["a b c d"] * 2, [["a b c e"]] * 2, each)) for each in settings]
    assert [c.difference for c in comparisons(results[0], results[1], "base.json", "this run")] == [0.0]


def test_rows_with_null_ids_are_numbered(run: Run, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": None, "prediction": p, "reference": "a"} for p in "ab"]
    ran = run("evaluate", "score", "--metrics", "exact_match", "-i", write_rows(tmp_path / "r.jsonl", rows), "--json")
    assert json.loads(ran.out)["scores"]["exact_match"] == 50


def test_two_fields_that_could_be_the_prediction_are_asked_about(run: Run, tmp_path: Path) -> None:
    def scored(row: Fields, *options: object) -> Ran:
        rows = write_rows(tmp_path / "r.jsonl", [dict(row)])
        return run("evaluate", "score", "--metrics", "exact_match", "-i", rows, "--json", *options)

    both: dict[str, object] = {"hypothesis": "la phrase", "output": "le mot", "reference": "la phrase"}
    ran = scored(both)
    assert ran.code == 2
    assert "--prediction-field" in ran.err
    assert json.loads(scored(both, "--prediction-field", "hypothesis").out)["scores"]["exact_match"] == 100
    for name in ("hypothesis", "translation", "prediction"):
        row = {"text": "the source", name: "la phrase", "reference": "la phrase"}
        assert json.loads(scored(row).out)["scores"]["exact_match"] == 100


def test_a_baseline_whose_scores_are_not_those_of_its_rows_is_refused(run: Run, tmp_path: Path) -> None:
    """Comparisons are made of the rows, so a score that was edited by hand would be shown beside another one."""
    rows = write_rows(tmp_path / "r.jsonl", [{"prediction": p, "reference": "a b"} for p in ("a", "a b", "c")])
    base = tmp_path / "base.json"
    asked = ("evaluate", "score", "--metrics", "f1", "-i", rows)
    assert run(*asked, "--report", base).code == 0
    made = json.loads(base.read_text())
    edits: list[tuple[str, object]] = [("scores", {"f1": 99.0}), ("scores", {"f1": "nan"}), ("units", [[[1e308, 1.0]] * 3])]
    edits += [("units", [[[200.0, 1.0], [-45.0, 1.0], [made["scores"]["f1"] * 3 - 155, 1.0]]]), ("units", [[]])]
    for key, value in edits:
        base.write_text(json.dumps({**made, key: value}))
        ran = run(*asked, "--baseline", base)
        assert (ran.code, "is not a result of llmkit evaluate" in ran.err) == (2, True), (value, ran.err)
    base.write_text(json.dumps({**made, "units": [[[*unit, 1.0] for unit in made["units"][0]]]}))
    ran = run(*asked, "--baseline", base)
    assert ran.code == 2
    assert "f1 is made of other figures in" in ran.err
