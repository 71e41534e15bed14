"""Options of metrics: sacrebleu's, digit for digit, and none that the chosen metrics don't read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from sacrebleu.metrics import BLEU, CHRF, TER

HYPOTHESES = ["The cat  sat; on a mat!", "hello", "Это 《мир》、だ", "It's 1,000.50 - well-known."]
REFERENCES = ["the cat sat on the mat.", "hello there world", "Это мир、です", "It is 1000.50, well known"]


@pytest.fixture
def texts(tmp_path: Path) -> list[object]:
    (tmp_path / "h.txt").write_text("".join(f"{line}\n" for line in HYPOTHESES))
    (tmp_path / "r.txt").write_text("".join(f"{line}\n" for line in REFERENCES))
    return ["-p", tmp_path / "h.txt", "-r", tmp_path / "r.txt"]


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("bleu", ["--effective-order"], BLEU(effective_order=True)),
        ("bleu", ["--effective-order", "--smooth-method", "none"], BLEU(effective_order=True, smooth_method="none")),
        ("chrf", ["--chrf-whitespace"], CHRF(whitespace=True)),
        ("chrf", ["--chrf-eps-smoothing"], CHRF(eps_smoothing=True)),
        ("ter", ["--ter-normalized"], TER(normalized=True)),
        ("ter", ["--ter-no-punct"], TER(no_punct=True)),
        ("ter", ["--ter-no-punct", "--ter-asian-support"], TER(no_punct=True, asian_support=True)),
        ("ter", ["--ter-normalized", "--ter-asian-support"], TER(normalized=True, asian_support=True)),
        ("ter", ["--ter-case-sensitive"], TER(case_sensitive=True)),
    ],
)
def test_an_option_of_sacrebleu_gives_its_score_and_signature(
    run: Run, texts: list[object], tmp_path: Path, name: str, options: list[str], theirs: Any
) -> None:
    ran = run("evaluate", "score", "--metrics", name, *texts, *options, "--json", "--report", tmp_path / "r.json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["scores"][name] == theirs.corpus_score(HYPOTHESES, [REFERENCES]).score
    assert found["signatures"][name] == str(theirs.get_signature())
    again = run("evaluate", "score", "--metrics", name, *texts, *options, "--baseline", tmp_path / "r.json")
    assert again.code == 0, again.err


def test_an_option_of_sacrebleu_parts_results(run: Run, texts: list[object], tmp_path: Path) -> None:
    assert run("evaluate", "bleu", *texts, "--report", tmp_path / "r.json").code == 0
    ran = run("evaluate", "bleu", *texts, "--effective-order", "--baseline", tmp_path / "r.json")
    assert ran.code == 2
    assert "two different signatures" in ran.err


@pytest.mark.parametrize(
    ("metrics", "options", "said"),
    [
        ("exact_match", ["--tokenize", "char"], "--tokenize applies to bleu, not to exact_match"),
        ("exact_match", ["-lc"], "-lc applies to bleu, chrf, not to exact_match"),
        ("chrf", ["--smooth-method", "floor"], "--smooth-method applies to bleu, not to chrf"),
        ("bleu,ter", ["--chrf-beta", "1"], "--chrf-beta applies to chrf, not to bleu, ter"),
        ("f1", ["--confidence"], "--confidence applies to bleu, chrf, ter, not to f1"),
        ("bleu", ["--normalize", "case"], "--normalize applies to accuracy, exact_match, f1, rouge, wer, not to bleu"),
        ("ter", ["--ter-asian-support"], "--ter-asian-support extends --ter-normalized and --ter-no-punct"),
        ("exact_match", ["--test", "bootstrap"], "--test needs --baseline"),
        ("bleu", ["--confidence", "--confidence-n", "0"], "--confidence-n 0: it must be 2 or more"),
        ("chrf++", [], "chrf++ is chrf with word n-grams"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(run: Run, texts: list[object], metrics: str, options: list[str], said: str) -> None:
    ran = run("evaluate", "score", "--metrics", metrics, *texts, *options)
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


def test_an_option_that_one_of_several_metrics_reads_is_taken(run: Run, texts: list[object]) -> None:
    ran = run("evaluate", "score", "--metrics", "rouge-L,ter", *texts, "--normalize", "case", "--ter-no-punct", "--json")
    assert ran.code == 0, ran.err
    assert list(json.loads(ran.out)["scores"]) == ["rougel", "ter"]


def test_the_environment_is_for_all_commands(run: Run, texts: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMKIT_TOKENIZE", "char")
    monkeypatch.setenv("LLMKIT_TEST", "bootstrap")
    assert run("evaluate", "score", "--metrics", "exact_match", *texts).code == 0


@pytest.mark.parametrize("count", ["0", "1"])
def test_a_paired_test_of_no_samples_is_refused(run: Run, texts: list[object], count: str) -> None:
    ran = run("evaluate", "bleu", *texts, *texts[:2], "--paired-bs", "--paired-bs-n", count)
    assert ran.code == 2
    assert f"--paired-bs-n {count}: it must be 2 or more" in ran.err


@pytest.mark.parametrize("test", ["bs", "ar"])
def test_a_paired_test_of_equal_systems_has_no_p(run: Run, texts: list[object], test: str) -> None:
    """sacrebleu's would be 1 / (samples + 1): it counts what lies above their difference of 0."""
    ran = run("evaluate", "bleu", *texts, *texts[:2], f"--paired-{test}", f"--paired-{test}-n", "50", "--json")
    assert ran.code == 0, ran.err
    assert [system["p_values"] for system in json.loads(ran.out)["systems"]] == [{}, {}]
    assert "the same bleu as" in ran.err


def test_resampling_needs_no_tokenizer() -> None:
    """A baseline of Japanese text can be read where the tokenizer's library is not installed."""
    from llmkit.metrics.statistics import Statistic, sacrebleu_metric, sacrebleu_units

    units = sacrebleu_units(sacrebleu_metric("bleu", {"tokenize": "char"}), HYPOTHESES, [REFERENCES])
    saved = Statistic.from_json({"kind": "bleu", "columns": [0, 1], "options": {"tokenize": "no such library", "smooth_method": "exp"}})
    assert saved(units.sum(0, keepdims=True))[0] == BLEU(tokenize="char").corpus_score(HYPOTHESES, [REFERENCES]).score


@pytest.mark.parametrize(
    ("text", "metric", "said"),
    [
        ("从前有一个小男孩住在海边", "bleu", "bleu: the tokenizer does not split Chinese and Japanese sentences (1 of the rows)"),
        ("从前有一个小男孩住在海边", "rougel", "rouge: 1 row scores 0, as ROUGE reads only letters from a to z and digits"),
        ("привет мир", "rouge1", "rouge: 1 row scores 0"),
        ("où est la gare", "rouge1,bleu", ""),
        ("the 海 sea", "rouge1,bleu", ""),
    ],
)
def test_a_language_that_a_metric_can_not_read_is_said(run: Run, tmp_path: Path, text: str, metric: str, said: str) -> None:
    """Such a score is 0 or 100 whatever the outputs are."""
    (tmp_path / "t.txt").write_text(text + "\n", encoding="utf-8")
    texts = ("-p", tmp_path / "t.txt", "-r", tmp_path / "t.txt")
    ran = run("evaluate", "score", "--metrics", metric, *texts)
    assert ran.err.startswith(f"warning: {said}") if said else ran.err == ""
    if metric == "bleu":
        assert run("evaluate", "score", "--metrics", metric, *texts, "--tokenize", "zh").err == ""
