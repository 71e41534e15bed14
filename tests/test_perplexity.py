"""Perplexity equals what the plainest code computes, however the work is cut up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import STORIES, Copy, Run, read_rows, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import UsageError
from llmkit.metrics.perplexity import Windows


def plain_log_likelihood(model: Any, sequence: list[int], context: int, stride: int) -> tuple[float, int]:
    """In float64, a window at a time, by the description of the protocol: `sequence` begins with BOS."""
    import torch

    total, scored, done = 0.0, 0, 0
    targets = sequence[1:]
    while done < len(targets):
        end = min(context if done == 0 else done + stride, len(targets))
        begin = max(0, end - context)
        with torch.no_grad():
            logits = model(torch.tensor([sequence[begin:end]])).logits[0].double()
        for position in range(done, end):
            total += float(torch.log_softmax(logits[position - begin], -1)[targets[position]])
            scored += 1
        done = end
    return total, scored


def rolling_windows(tokens: list[int], context: int) -> list[tuple[list[int], list[int]]]:
    """(inputs, targets) as lm-evaluation-harness' rolling windows are documented, without overlap of targets; -1 stands for BOS."""
    out = [([-1, *tokens[: context - 1]], tokens[:context])]
    done = len(out[0][1])
    while done < len(tokens):
        count = min(len(tokens) - done, context)
        end = done + count
        out.append((tokens[end - context - 1 : end - 1], tokens[end - count : end]))
        done = end
    return out


@given(st.integers(2, 60), st.integers(1, 20), st.data())
def test_every_token_is_scored_exactly_once_within_the_context(length: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    first = data.draw(st.integers(1, length - 1))
    scored: list[int] = []
    for begin, start, end in Windows(context, stride).spans(length, first):
        assert begin < start < end <= length
        assert end - 1 - begin <= context
        scored += range(start, end)
    assert scored == list(range(first, length))


@given(st.integers(1, 60), st.integers(2, 20))
def test_without_overlap_the_windows_are_those_of_lm_evaluation_harness(length: int, context: int) -> None:
    sequence = [-1, *range(length)]
    ours = [(sequence[b : e - 1], sequence[s:e]) for b, s, e in Windows(context, context).spans(len(sequence))]
    theirs = rolling_windows(list(range(length)), context)
    # the first window of a short text reads no further than it scores
    assert [(i[: len(t)] if n == 0 else i, t) for n, (i, t) in enumerate(theirs)] == ours


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("context", "stride", "batch_size"), [(None, None, 1), (8, None, 5), (13, 4, "auto"), (64, 17, 3), (100, 100, "auto")]
)
def test_equals_a_float64_reference(
    run: Run,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    ragged: list[str],
    architecture: str,
    context: int | None,
    stride: int | None,
    batch_size: int | str,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = request.getfixturevalue(architecture)
    texts = [*ragged[:9], "a", "", "…é😀"]
    rows = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
    options = [] if context is None else ["--context", context]
    options += [] if stride is None else ["--stride", stride]
    ran = run("evaluate", "perplexity", "-m", folder, "-i", rows, "--json", "-q", "--batch-size", batch_size, *options)
    assert ran.code == 0
    scores = json.loads(ran.out)["scores"]

    model = AutoModelForCausalLM.from_pretrained(folder).double()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    window = context or {"gpt2": 128, "llama": 256}[architecture]
    total, count = 0.0, 0
    for text in texts:
        sequence = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        value, scored = plain_log_likelihood(model, sequence, window, stride or window)
        total, count = total + value, count + scored
    size, words = sum(len(t.encode()) for t in texts), sum(len(t.split()) or 1 for t in texts)
    assert scores["token_perplexity"] == pytest.approx(math.exp(-total / count), rel=1e-5)
    assert scores["byte_perplexity"] == pytest.approx(math.exp(-total / size), rel=1e-5)
    assert scores["word_perplexity"] == pytest.approx(math.exp(-total / words), rel=1e-4)
    assert scores["bits_per_byte"] == pytest.approx(-total / size / math.log(2), rel=1e-5)
    assert scores["mean_log_likelihood"] == pytest.approx(total / count, rel=1e-5)


def test_targets_of_an_encoder_decoder_are_scored_given_their_sources(run: Run, t5: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    pairs = [("the king", "a queen"), ("by the sea", "we"), ("x", "a long answer to a short question")]
    rows = write_rows(tmp_path / "pairs.jsonl", [{"source": s, "target": t} for s, t in pairs])
    ran = run("evaluate", "perplexity", "-m", t5, "-i", rows, "--json", "-q")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(t5).double(), AutoTokenizer.from_pretrained(t5)
    total = count = 0.0
    for source, target in pairs:
        ids = tokenizer(source, return_tensors="pt").input_ids
        labels = tokenizer(target, return_tensors="pt").input_ids
        with torch.no_grad():
            total -= float(model(input_ids=ids, labels=labels).loss) * labels.shape[1]
        count += labels.shape[1]
    assert json.loads(ran.out)["scores"]["mean_log_likelihood"] == pytest.approx(total / count, rel=1e-5)


def test_completion_only_scores_what_follows_the_prompt(run: Run, gpt2: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "the king", "completion": " and queen"}])
    whole = json.loads(run("evaluate", "perplexity", "-m", gpt2, "-i", rows, "--json", "-q").out)
    part = json.loads(run("evaluate", "perplexity", "-m", gpt2, "-i", rows, "--json", "-q", "--completion-only").out)
    assert whole["counts"]["tokens"] == len("the king and queen")
    assert part["counts"]["tokens"] == len(" and queen")
    assert "target:completion" in part["signatures"]["bits_per_byte"]


def test_assistant_turns_of_a_conversation_are_scored(run: Run, llama: Path, tmp_path: Path) -> None:
    turns = [("user", "who?"), ("assistant", "the king"), ("user", "where?"), ("assistant", "by the sea")]
    rows = write_rows(tmp_path / "chat.jsonl", [{"messages": [{"role": r, "content": c} for r, c in turns]}])
    ran = run("evaluate", "perplexity", "-m", llama, "-i", rows, "--json", "-q", "--completion-only")
    assert json.loads(ran.out)["counts"]["tokens"] == len("the king") + len("by the sea")


def test_concatenated_documents_are_one_text_with_separators(run: Run, gpt2: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    rows = write_rows(tmp_path / "texts.jsonl", [{"text": "ab"}, {"text": "the king"}, {"text": "c" * 30}])
    ran = run("evaluate", "perplexity", "-m", gpt2, "-i", rows, "--json", "-q", "--concatenate", "--context", "16")
    found = json.loads(ran.out)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2)
    sequence = [token for text in ("ab", "the king", "c" * 30) for token in (256, *tokenizer(text)["input_ids"])]
    total, count = plain_log_likelihood(AutoModelForCausalLM.from_pretrained(gpt2).double(), sequence, 16, 16)
    assert found["counts"]["tokens"] == count == 42
    assert found["scores"]["token_perplexity"] == pytest.approx(math.exp(-total / count), rel=1e-5)
    assert found["intervals"]["token_perplexity"][0] < found["scores"]["token_perplexity"] < found["intervals"]["token_perplexity"][1]


def test_a_plain_text_is_one_document_and_by_line_its_lines_are(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The king said so.\n\nThe queen laughed.\n")
    whole = json.loads(run("evaluate", "perplexity", "-i", text, "--json", "-q").out)
    lines = json.loads(run("evaluate", "perplexity", "-i", text, "--json", "-q", "--by-line").out)
    assert (whole["rows"], lines["rows"]) == (1, 3)
    assert whole["counts"]["bytes"] == len(text.read_bytes())


def test_a_document_that_spells_out_bos_does_not_get_two(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "<s>Once upon a time"}])
    plain = write_rows(tmp_path / "plain.jsonl", [{"text": "Once upon a time"}])
    both = [json.loads(run("evaluate", "perplexity", "-i", path, "--json", "-q").out) for path in (rows, plain)]
    assert both[0]["scores"]["token_perplexity"] == both[1]["scores"]["token_perplexity"]
    assert "bos:yes" in both[0]["signatures"]["token_perplexity"]


def test_disagreement_about_bos_is_said(run: Run, llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(llama)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 7}))
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}])
    ran = run("evaluate", "perplexity", "-m", folder, "-i", rows)
    assert "BOS is 256, the configuration's 7" in ran.err


def test_per_document_results_are_a_resumable_job(run: Run, tmp_path: Path, ragged: list[str]) -> None:
    rows = write_rows(tmp_path / "texts.jsonl", [{"id": i, "text": t} for i, t in enumerate(ragged * 20)])
    arguments = ["evaluate", "perplexity", "-i", rows, "--json", "-q", "--batch-size", "8"]
    first = tmp_path / "first.jsonl"
    whole = run(*arguments, "-o", first)
    assert whole.code == 0
    second = tmp_path / "second.jsonl"
    stopped = run(*arguments, "-o", second, "--max-time", "0.01")
    assert stopped.code == 124
    again = run(*arguments, "-o", second)
    assert again.code == 0
    assert json.loads(again.out)["scores"] == json.loads(whole.out)["scores"]
    assert second.read_bytes() == first.read_bytes()
    assert {"id", "text", "log_likelihood", "tokens", "perplexity", "bits_per_byte"} <= read_rows(first)[0].keys()


def test_batching_does_not_change_the_result(run: Run, tmp_path: Path, ragged: list[str]) -> None:
    rows = write_rows(tmp_path / "texts.jsonl", [{"text": t} for t in ragged])
    one, many = (
        json.loads(run("evaluate", "perplexity", "-i", rows, "--json", "-q", "--batch-size", n).out)["scores"]["token_perplexity"]
        for n in (1, 24)
    )
    assert one == pytest.approx(many, rel=1e-6)


def test_nothing_to_score_is_bad_input(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": ""}])
    ran = run("evaluate", "perplexity", "-i", rows)
    assert ran.code == 2
    assert "no token to score" in ran.err


def test_a_stride_above_the_context_is_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and the context"):
        Windows(8, 9)


def test_a_context_above_the_models_is_refused(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "a"}])
    ran = run("evaluate", "perplexity", "-m", STORIES, "-i", rows, "--context", "513")
    assert ran.code == 2
    assert "512" in ran.err


def test_infinite_perplexity_is_said() -> None:
    from llmkit.metrics.base import Result
    from llmkit.metrics.perplexity import Likelihood, scores

    found = scores([Likelihood(-1e6, 1, 1, 1)], protocol="x", tokenizer="y")
    assert Result(found, 1).as_json()["scores"]["token_perplexity"] == "inf"
