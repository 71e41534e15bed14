"""Scores of saved outputs and of a model's answers, and the gates on them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from conftest import Run, read_rows, write_rows

from llmkit.errors import UsageError
from llmkit.metrics.base import Score
from llmkit.metrics.gates import conditions

HYPOTHESES = ["The cat sat on the mat.", "Hello world!", "It rains – often.", "He said no"]
FIRST = ["The cat sat on a mat.", "Hello, world!", "It often rains.", "He said no."]
SECOND = ["A cat was sitting on the mat.", "Hi world!", "It rains often.", "He refused"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tmp_path / "hyp.txt", tmp_path / "ref1.txt", tmp_path / "ref2.txt"
    for path, lines in zip(paths, (HYPOTHESES, FIRST, SECOND), strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {}),
        (["-tok", "intl"], {"tokenize": "intl"}),
        (["--tokenize", "char", "-lc"], {"tokenize": "char", "lowercase": True}),
        (["--smooth-method", "floor", "--smooth-value", "0.2"], {"smooth_method": "floor", "smooth_value": 0.2}),
    ],
)
def test_two_references_give_sacrebleus_score_and_signature(
    run: Run, files: tuple[Path, Path, Path], options: list[str], settings: dict[str, Any]
) -> None:
    hyp, one, two = files
    found = json.loads(run("evaluate", "bleu", "-p", hyp, "-r", one, "-r", two, "--json", *options).out)
    metric = sacrebleu.BLEU(**settings)
    expected = metric.corpus_score(HYPOTHESES, [FIRST, SECOND])
    assert found["scores"]["bleu"] == expected.score
    assert found["signatures"]["bleu"] == str(metric.get_signature())
    assert found["rows"] == 4


def test_chrf_ter_and_intervals_are_sacrebleus(run: Run, files: tuple[Path, Path, Path]) -> None:
    hyp, one, _ = files
    ran = run("evaluate", "score", "--metrics", "chrf,ter", "-p", hyp, "-r", one, "--json", "-ci", "--chrf-word-order", "2")
    found = json.loads(ran.out)
    for name, metric in (("chrf", sacrebleu.CHRF(word_order=2)), ("ter", sacrebleu.TER())):
        expected = metric.corpus_score(HYPOTHESES, [FIRST], n_bootstrap=1000)
        assert found["scores"][name] == expected.score
        low, high = found["intervals"][name]
        assert (low + high) / 2 == pytest.approx(expected._mean)
        assert found["signatures"][name] == str(metric.get_signature())


def test_rows_may_have_different_numbers_of_references(run: Run, tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path / "rows.jsonl",
        [{"prediction": HYPOTHESES[0], "references": [FIRST[0], SECOND[0]]}, {"prediction": HYPOTHESES[1], "references": [FIRST[1]]}],
    )
    found = json.loads(run("evaluate", "bleu", "-i", rows, "--json").out)
    expected = sacrebleu.BLEU().corpus_score(HYPOTHESES[:2], [FIRST[:2], [SECOND[0], None]])
    assert found["scores"]["bleu"] == expected.score


def test_exact_match_and_f1_say_their_normalization(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prediction": "The King!", "reference": "king"}, {"prediction": "x", "reference": "y z"}])
    plain = json.loads(run("evaluate", "score", "--metrics", "exact_match,f1", "-i", rows, "--json").out)
    squad = run("evaluate", "score", "--metrics", "exact_match,f1", "-i", rows, "--json", "--normalize", "case,punctuation,articles,space")
    assert plain["scores"]["exact_match"] == 0
    assert json.loads(squad.out)["scores"] == {"exact_match": 50.0, "f1": 50.0}
    assert json.loads(squad.out)["signatures"]["f1"].startswith("normalize:case,punctuation,articles,space|")


def test_a_model_answers_and_is_scored(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"id": i, "prompt": "Once upon a", "reference": " time"} for i in range(3)])
    out = tmp_path / "out.jsonl"
    arguments = [
        "evaluate",
        "score",
        "--metrics",
        "exact_match",
        "-m",
        "builtin:stories",
        "-i",
        rows,
        "--max-new-tokens",
        1,
        "--json",
        "-q",
    ]
    found = json.loads(run(*arguments, "-o", out).out)
    assert found["scores"]["exact_match"] == 100
    assert found["about"]["model"] == "builtin:stories"
    assert [row["prediction"] for row in read_rows(out)] == [" time"] * 3


def test_files_of_different_length_are_refused_with_their_counts(run: Run, files: tuple[Path, Path, Path]) -> None:
    hyp, one, _ = files
    one.write_text("\n".join(FIRST[:2]) + "\n")
    ran = run("evaluate", "bleu", "-p", hyp, "-r", one)
    assert ran.code == 2
    assert "4 lines" in ran.err
    assert "2 lines" in ran.err
    assert f"{one}, line 3" in ran.err


def test_an_empty_reference_is_refused_with_its_line(run: Run, files: tuple[Path, Path, Path]) -> None:
    hyp, one, _ = files
    one.write_text("a\n\nb\nc\n")
    ran = run("evaluate", "bleu", "-p", hyp, "-r", one)
    assert ran.code == 2
    assert f"{one}, line 2: an empty reference" in ran.err


def test_an_unknown_metric_suggests_the_right_one(run: Run, files: tuple[Path, Path, Path]) -> None:
    ran = run("evaluate", "score", "--metrics", "bleuu", "-p", files[0], "-r", files[1])
    assert ran.code == 2
    assert "did you mean 'bleu'" in ran.err


@pytest.mark.parametrize(("condition", "code"), [("bleu < 10", 0), ("bleu < 99", 4), ("BLEU>=1e1", 4)])
def test_gates_decide_the_exit_code(run: Run, files: tuple[Path, Path, Path], condition: str, code: int) -> None:
    ran = run("evaluate", "bleu", "-p", files[0], "-r", files[1], "--json", "--fail-if", condition)
    assert ran.code == code
    assert json.loads(ran.out)["gates"][0]["passed"] is (code == 0)
    if code == 4:
        assert "bleu 36.5232 fails" in ran.err
        assert " by " in ran.err


@pytest.mark.parametrize("condition", ["bleu", "bleu >", "> 3", "bleu > x", "chrf > 3", "perplexity > 3"])
def test_malformed_gates_and_unknown_names_are_refused_before_anything_is_computed(run: Run, condition: str) -> None:
    ran = run("evaluate", "bleu", "-p", "no-such-file", "-r", "no-such-file", "--fail-if", condition)
    assert ran.code == 2
    assert "--fail-if" in ran.err


def test_a_score_that_is_no_number_fails_its_gate() -> None:
    (condition,) = conditions(["perplexity > 30"], ["token_perplexity"])
    assert conditions(["bleu < 40 %"], ["bleu"])[0].bound == 40
    assert not condition.check([Score("token_perplexity", math.nan, "")]).passed
    assert condition.check([Score("token_perplexity", 12.0, "")]).passed


def test_a_condition_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="is not a percentage"):
        conditions(["perplexity > 30%"], ["token_perplexity"])
    with pytest.raises(UsageError, match="not a condition"):
        conditions(["perplexity is low"], ["token_perplexity"])


def test_reports_are_written_as_json_and_markdown(run: Run, files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ran = run("evaluate", "bleu", "-p", files[0], "-r", files[1], "--report", tmp_path / "r.json", "--report", tmp_path / "r.md")
    assert ran.code == 0
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == 4
    assert "| metric | score |" in (tmp_path / "r.md").read_text()


def test_rouge_and_word_error_rate_are_their_libraries(run: Run, files: tuple[Path, Path, Path]) -> None:
    import jiwer
    from rouge_score.rouge_scorer import RougeScorer

    hyp, one, _ = files
    found = json.loads(run("evaluate", "score", "--metrics", "rouge,wer,accuracy", "-p", hyp, "-r", one, "--json").out)
    assert found["scores"]["wer"] == pytest.approx(100 * jiwer.wer(FIRST, HYPOTHESES))
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(r, h)["rougeL"].fmeasure for r, h in zip(FIRST, HYPOTHESES, strict=True)]
    assert found["scores"]["rougel"] == pytest.approx(100 * sum(expected) / 4)
    assert {"rouge1", "rouge2", "rougel", "rougelsum", "accuracy"} < found["scores"].keys()
    assert "version:jiwer-" in found["signatures"]["wer"]


MODULE = """
import datasets
import evaluate

class LengthRatio(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"length_ratio": sum(map(len, predictions)) / sum(map(len, references))}
"""


def test_a_local_metric_module_is_run_and_a_hubs_only_with_consent(
    run: Run, files: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    hyp, one, _ = files
    module = tmp_path / "length_ratio.py"
    module.write_text(MODULE)
    ran = run("evaluate", "score", "--metrics", f"bleu,{module}", "-p", hyp, "-r", one, "--json", "--fail-if", "length_ratio > 2")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["scores"]["length_ratio"] == pytest.approx(sum(map(len, HYPOTHESES)) / sum(map(len, FIRST)))
    refused = run("evaluate", "score", "--metrics", "someone/metric", "-p", hyp, "-r", one)
    assert refused.code == 2
    assert "--trust-remote-code" in refused.err


def test_ours_are_metrics_of_evaluate_too() -> None:
    from llmkit.metrics.as_evaluate import as_metric

    found = as_metric("bleu").compute(predictions=HYPOTHESES, references=[[a, b] for a, b in zip(FIRST, SECOND, strict=True)])
    assert found["bleu"] == sacrebleu.BLEU().corpus_score(HYPOTHESES, [FIRST, SECOND]).score
    assert found["signature"].startswith("nrefs:2|")
    assert as_metric("exact_match").compute(predictions=["a", "b"], references=["a", "c"])["exact_match"] == 50
    with pytest.raises(UsageError, match="'rouge' is several metrics"):
        as_metric("rouge")


@pytest.mark.parametrize("tokenizer", ["flores200", "spBLEU-1K", "ja-mecab", "ko-mecab", "no-such"])
def test_a_tokenizer_that_is_not_here_is_said_and_not_downloaded(
    run: Run, files: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
) -> None:
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    ran = run("evaluate", "bleu", "-p", files[0], "-r", files[1], "--tokenize", tokenizer)
    assert ran.code == (2 if tokenizer == "no-such" else 5)
    assert tokenizer in ran.err


@pytest.mark.parametrize(("option", "kind"), [("--paired-bs", "bs"), ("--paired-ar", "ar")])
def test_paired_tests_are_sacrebleus(run: Run, tmp_path: Path, option: str, kind: str) -> None:
    from sacrebleu.significance import PairedTest

    one, two = [f"{h} and so on" for h in FIRST * 5], [f"{h} and so" if i % 3 else h for i, h in enumerate(FIRST * 5)]
    paths = [tmp_path / name for name in ("one.txt", "two.txt", "ref.txt")]
    for path, lines in zip(paths, (one, two, [f"{r} and so forth" for r in FIRST * 5]), strict=True):
        path.write_text("\n".join(lines) + "\n")
    ran = run("evaluate", "score", "--metrics", "bleu,chrf", "-p", paths[0], "-p", paths[1], "-r", paths[2], option, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    metrics = {"BLEU": sacrebleu.BLEU(), "CHRF": sacrebleu.CHRF()}
    reference = [f"{r} and so forth" for r in FIRST * 5]
    signatures, scores = PairedTest([(str(paths[0]), one), (str(paths[1]), two)], metrics, [reference], test_type=kind)()
    assert found["systems"][1]["scores"]["bleu"] == scores["BLEU"][1].score
    assert found["systems"][1]["p_values"]["bleu"] == scores["BLEU"][1].p_value
    assert found["systems"][0]["scores"]["chrf"] == scores["chrF2"][0].score
    assert found["signatures"]["bleu"] == str(signatures["BLEU"])


def test_several_systems_need_a_paired_test(run: Run, files: tuple[Path, Path, Path]) -> None:
    ran = run("evaluate", "bleu", "-p", files[0], "-p", files[1], "-r", files[2])
    assert ran.code == 2
    assert "--paired-bs" in ran.err
