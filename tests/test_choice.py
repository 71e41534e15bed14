"""Multiple choice and classification by log-likelihood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, write_rows

QUESTIONS: list[dict[str, Any]] = [
    {"question": "What did the king wear?", "choices": ["a golden crown", "xqzt vvk"], "answer": 0},
    {"question": "Where did the ship sail?", "choices": ["pppp", "over the sea", "1239"], "answer": "B"},
    {"question": "Who said it?", "choices": {"text": ["zzz", "the old man"], "label": ["1", "2"]}, "answerKey": "2"},
    {"question": "How?", "choices": ["slowly", "ttttttt"], "answer": "slowly"},
]


def test_the_likeliest_answer_is_chosen(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = run("evaluate", "choice", "-i", write_rows(tmp_path / "q.jsonl", QUESTIONS), "-o", out, "--json", "-q")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["scores"]["accuracy"] == 100
    assert found["rows"] == 4
    assert "norm:characters" in found["signatures"]["accuracy_normalized"]
    assert read_rows(out)[1]["choice"] == "over the sea"


def test_log_likelihoods_are_the_models(run: Run, gpt2: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    row: dict[str, Any] = {"question": "who", "choices": ["king", "the queen"], "answer": 1}
    out = tmp_path / "out.jsonl"
    assert run("evaluate", "choice", "-m", gpt2, "-i", write_rows(tmp_path / "q.jsonl", [row]), "-o", out, "-q").code == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(gpt2).double(), AutoTokenizer.from_pretrained(gpt2)
    prompt = tokenizer("Question: who\nAnswer:")["input_ids"]
    for value, choice in zip(read_rows(out)[0]["log_likelihoods"], row["choices"], strict=True):
        answer = tokenizer(" " + choice)["input_ids"]
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            scores = model(ids).logits[0].log_softmax(-1)
        expected = sum(float(scores[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))
        assert value == pytest.approx(expected, rel=1e-5)


def test_labels_classify_texts(run: Run, tmp_path: Path) -> None:
    labels = ["happy", 0, "xqzt", 1]  # by name and by number; two of them are not the likeliest word
    texts = write_rows(tmp_path / "t.jsonl", [{"text": "The king came home.", "label": label} for label in labels])
    out = tmp_path / "out.jsonl"
    arguments = ["--labels", "happy,xqzt", "--template", "{text} He was very", "--json", "-q", "-o", out]
    found = json.loads(run("evaluate", "choice", "-i", texts, *arguments).out)
    assert (found["rows"], found["scores"]["accuracy"]) == (4, 50)
    assert [row["choice"] for row in read_rows(out)] == ["happy"] * 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "x", "answer": 0}, "choices"),
        ({"question": "x", "choices": ["a"], "answer": 0}, "at least two texts"),
        ({"question": "x", "choices": ["a", "b"], "answer": 2}, "not one of the choices"),
        ({"question": "x", "choices": ["a", "b"], "answer": "c"}, "not one of the choices"),
        ({"question": "x", "choices": ["a", "b"]}, "no field 'answer'"),
        ({"choices": ["a", "b"], "answer": 0}, "question"),
    ],
)
def test_rows_that_are_no_question_are_named(run: Run, tmp_path: Path, row: dict[str, Any], said: str) -> None:
    ran = run("evaluate", "choice", "-i", write_rows(tmp_path / "q.jsonl", [QUESTIONS[0], row]))
    assert ran.code == 3
    assert said in ran.err
    assert "line 2" in ran.err


def test_batching_does_not_change_a_choice(run: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "q.jsonl", QUESTIONS * 5)
    outs = []
    for size in (1, 20):
        out = tmp_path / f"{size}.jsonl"
        assert run("evaluate", "choice", "-i", source, "-o", out, "--batch-size", size, "-q").code == 0
        outs.append([row["log_likelihoods"] for row in read_rows(out)])
    for one, many in zip(*outs, strict=True):
        assert one == pytest.approx(many, rel=1e-5)


def test_accuracy_is_held_against_a_baseline(run: Run, tmp_path: Path) -> None:
    source, base = write_rows(tmp_path / "q.jsonl", QUESTIONS * 5), tmp_path / "base.json"
    assert run("evaluate", "choice", "-i", source, "--report", base, "-q").code == 0
    ran = run("evaluate", "choice", "-i", source, "--baseline", base, "--fail-if", "accuracy < 50")
    assert ran.code == 0
    assert "McNemar" in ran.err
