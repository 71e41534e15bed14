"""Several training files with weights, several validation files, and answers to fixed prompts at each evaluation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.cli.training import weighted
from llmkit.training.file_mixture import FileMixture


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1.0, 2.0, 3.0]))
def test_a_whole_weight_is_how_often_an_epoch_sees_each_row(first: int, second: int, weight: float) -> None:
    mixture = FileMixture((first, second), (1.0, weight))
    for epoch in range(3):
        seen = Counter(int(i) for i in mixture.epoch(epoch, 5))
        assert seen == Counter(range(first)) + Counter({first + i: int(weight) for i in range(second)})


@given(st.integers(2, 40))
def test_a_weight_of_a_half_sees_every_row_once_in_two_epochs(count: int) -> None:
    mixture = FileMixture((2 * count, 3), (0.5, 1.0))
    both = Counter(int(i) for epoch in (0, 1) for i in mixture.epoch(epoch, 1) if i < 2 * count)
    assert both == Counter(range(2 * count))
    assert mixture.size == count + 3


def test_equal_weights_of_one_are_the_order_of_one_file() -> None:
    assert FileMixture((4, 5)).epoch(2, 7).tolist() == FileMixture((9,)).epoch(2, 7).tolist()


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0.3, 0.5, 1.0, 2.5, 7.0])), min_size=1, max_size=3))
def test_each_epoch_takes_the_next_piece_of_a_files_permutations(files: list[tuple[int, float]]) -> None:
    mixture = FileMixture(tuple(count for count, _ in files), tuple(weight for _, weight in files))
    first = 0
    for (count, _), size in zip(files, mixture.sizes, strict=True):
        seen = Counter(int(i) for epoch in range(4) for i in mixture.epoch(epoch, 3) if first <= i < first + count)
        assert seen.total() == 4 * size
        assert max(seen.values(), default=0) - min((seen[first + i] for i in range(count)), default=0) <= 1
        first += count


@pytest.mark.parametrize(("name", "weight"), [("a.jsonl:2e0", 2), ("a.jsonl:.5", 0.5), ("a.jsonl:1e9", 1e9), ("a.jsonl:-3", -3)])
def test_a_weight_is_a_number_in_any_form(name: str, weight: float) -> None:
    assert weighted(name) == ("a.jsonl", weight)


@pytest.mark.parametrize("name", ["org/name:train", "a:b.jsonl", "C:\\rows", "a.jsonl:2x", "a.jsonl:", ":2"])
def test_what_is_no_number_belongs_to_the_name(name: str) -> None:
    assert weighted(name) == (name, 1.0)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    one = write_rows(tmp_path / "one.jsonl", [{"text": f"the king {i}"} for i in range(6)])
    two = write_rows(tmp_path / "two.jsonl", [{"prompt": f"Say {i}: ", "completion": "a queen"} for i in range(4)])
    return one, two


def test_files_of_different_formats_are_trained_together_by_weight(
    run: Run, tmp_path: Path, files: tuple[Path, Path], gpt2: Path
) -> None:  # fmt: skip
    one, two = files
    training = ["finetune", "-m", gpt2, "-o", tmp_path / "ad", "--epochs", "1", "--batch-size", "2", "--lora-r", "4", "--train", one]
    done = run(*training, "--train", f"{two}:2")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "ad" / "run.json").read_text())
    assert record["identity"]["data.weights"] == [1.0, 2.0]
    assert record["result"]["steps"] == 7  # 6 + 2 * 4 rows, two a step
    assert record["result"]["format"] == "text and prompt and completion"
    assert record["options"]["train"] == [str(one), f"{two}:2"]
    again = run(*training, "--train", f"{two}:3")
    assert again.code == 2
    assert "data.weights was [1.0, 2.0], is [1.0, 3.0]" in again.err
    assert run("rerun", tmp_path / "ad" / "run.json").code == 0


@pytest.mark.parametrize("weight", ["0", "0.0"])
def test_a_weight_of_nothing_is_refused(run: Run, files: tuple[Path, Path], weight: str) -> None:
    done = run("finetune", "--train", files[0], "--train", f"{files[1]}:{weight}", "--dry-run")
    assert done.code == 2
    assert "it must be above 0" in done.err


def test_a_bad_row_is_named_with_its_file(run: Run, tmp_path: Path, files: tuple[Path, Path]) -> None:
    bad = write_rows(tmp_path / "bad.jsonl", [{"text": "x"}, {"text": ""}])
    done = run("finetune", "--train", files[0], "--train", bad, "--dry-run")
    assert done.code == 2
    assert "bad.jsonl, line 2" in done.err


def test_each_validation_file_has_its_loss_and_its_figures(run: Run, tmp_path: Path, files: tuple[Path, Path], gpt2: Path) -> None:
    one, two = files
    (tmp_path / "more").mkdir()
    dev = write_rows(tmp_path / "more" / "one.jsonl", [{"text": "a house by the sea"}, {"text": "three children"}])
    done = run(
        "finetune", one, "-m", gpt2, "-o", tmp_path / "ad", "--max-steps", "2", "--lora-r", "4",
        "--valid", two, "--valid", one, "--valid", dev,
    )  # fmt: skip
    assert done.code == 0, done.err
    evaluated = [entry for entry in read_rows(tmp_path / "ad" / "metrics.jsonl") if "eval_loss" in entry]
    assert evaluated[-1].keys() >= {"eval_two_loss", "eval_one_loss", "eval_one_3_loss"}
    figures = json.loads((tmp_path / "ad" / "run.json").read_text())["result"]["figures"]
    assert figures["sets"].keys() == {"two", "one", "one_3"}
    card = (tmp_path / "ad" / "README.md").read_text()
    assert "| token perplexity on `one_3` |" in card
    alone = run("finetune", one, "-m", gpt2, "-o", tmp_path / "alone", "--max-steps", "2", "--lora-r", "4", "--valid", dev)
    assert alone.code == 0, alone.err
    (single,) = [entry for entry in read_rows(tmp_path / "alone" / "metrics.jsonl") if entry.get("step") == 2 and "eval_loss" in entry]
    assert single["eval_loss"] == pytest.approx(evaluated[-1]["eval_one_3_loss"], rel=1e-5)


def test_a_validation_file_without_a_trained_token_has_no_figures(run: Run, tmp_path: Path, files: tuple[Path, Path], gpt2: Path) -> None:
    one, _ = files
    long = write_rows(tmp_path / "long.jsonl", [{"prompt": "Say it once more: ", "completion": "a queen"}])  # its completion is cut off
    done = run(
        "finetune", one, "-m", gpt2, "-o", tmp_path / "ad", "--max-steps", "2", "--lora-r", "4", "--max-length", "8",
        "--valid", one, "--valid", long,
    )  # fmt: skip
    assert done.code == 0, done.err
    evaluated = [entry for entry in read_rows(tmp_path / "ad" / "metrics.jsonl") if "eval_loss" in entry]
    assert evaluated[-1]["eval_one_loss"] == evaluated[-1]["eval_loss"]
    assert "eval_long_loss" not in evaluated[-1]
    assert json.loads((tmp_path / "ad" / "run.json").read_text())["result"]["figures"]["sets"].keys() == {"one"}


def answers(folder: Path) -> dict[int, list[dict[str, str]]]:
    return {entry["step"]: entry["answers"] for entry in read_rows(folder / "metrics.jsonl") if "answers" in entry}


def test_prompts_are_answered_at_each_evaluation_as_generate_answers_them(
    run: Run, tmp_path: Path, files: tuple[Path, Path], gpt2: Path
) -> None:  # fmt: skip
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Say 1: "}, {"prompt": "the | king"}])
    training: list[Any] = ["finetune", files[1], "-m", gpt2, "--max-steps", "6", "--learning-rate", "3e-2", "--lora-dropout", "0.2"]
    training += ["--lora-r", "4", "--batch-size", "2"]
    asked = ["--eval-prompts", prompts, "--eval-steps", "3", "--eval-max-new-tokens", "8"]
    done = run(*training, *asked, "-o", tmp_path / "ad")
    assert done.code == 0, done.err
    told = answers(tmp_path / "ad")
    assert list(told) == [0, 3, 6]
    assert [answer["prompt"] for answer in told[0]] == ["Say 1: ", "the | king"]
    for step, adapter in ((0, []), (6, ["--adapter", tmp_path / "ad"])):
        said = run("generate", "-i", prompts, "-m", gpt2, *adapter, "--max-new-tokens", "8", "--engine", "torch")
        assert [json.loads(line)["text"].strip() for line in said.out.splitlines()] == [answer["text"] for answer in told[step]]
    assert "step 6: Say 1:" in done.err
    assert "## Answers" in (tmp_path / "ad" / "README.md").read_text()
    longer = run(*training, *asked[:-1], "9", "-o", tmp_path / "ad")
    assert longer.code == 2
    assert "eval_max_new_tokens was 8, is 9" in longer.err
    # answering changes nothing of what is trained, and a resumed run logs the same
    assert run(*training, "-o", tmp_path / "plain").code == 0
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("ad", "plain")]
    assert weights[0] == weights[1]
    assert run(*training, *asked, "-o", tmp_path / "stopped", "--max-time", "0.001s").code == 124
    assert run(*training, *asked, "-o", tmp_path / "stopped").code == 0
    assert (tmp_path / "stopped" / "metrics.jsonl").read_bytes() == (tmp_path / "ad" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("options", [["--template", "Say {n}: "], ["--prompt-field", "q", "--completion-field", "completion"]])
def test_prompts_have_the_fields_of_the_training(run: Run, tmp_path: Path, gpt2: Path, options: list[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"n": 1, "q": "Say 1: ", "completion": "the king"}])
    asked = write_rows(tmp_path / "asked.jsonl", [{"n": 1, "q": "Say 1: "}, {"prompt": "Say 1: "}])
    done = run("finetune", rows, "-m", gpt2, "-o", tmp_path / "ad", "--max-steps", "1", "--eval-prompts", asked, *options)
    assert done.code == 0, done.err
    first, second = answers(tmp_path / "ad")[0]
    assert first == second
    assert first["prompt"] == "Say 1: "


def test_a_translator_is_asked_as_translate_would(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"source": "Good morning.", "target": "Bonjour."}] * 2)
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"source": "Good morning."}])
    done = run(
        "finetune", rows, "-m", "builtin:en-fr", "-o", tmp_path / "ad", "--max-steps", "1", "--lora-r", "4", "--eval-prompts", prompts
    )
    assert done.code == 0, done.err
    assert answers(tmp_path / "ad")[0][0]["text"] == "Bonjour."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval-max-new-tokens", "5"], "needs --eval-prompts FILE"),
        (["--eval-prompts", "nothing.jsonl"], "nothing.jsonl"),
        (["--eval-steps", "5"], "needs validation rows, or --eval-prompts"),
    ],
)
def test_prompts_that_can_not_be_meant_are_refused(
    run: Run, files: tuple[Path, Path], options: list[str], message: str
) -> None:  # fmt: skip
    done = run("finetune", files[0], "--dry-run", *options)
    assert done.code == 2, done.err
    assert message in done.err


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"prompt": "x" * 500}, "too long"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "needs a chat template"),
        ({"question": "Hi"}, "a row of prompts has a field 'prompt' or 'messages'"),
    ],
)
def test_prompts_that_can_not_be_answered_are_refused_before_a_run_begins(
    run: Run, tmp_path: Path, files: tuple[Path, Path], gpt2: Path, prompt: dict[str, Any], message: str
) -> None:
    asked = write_rows(tmp_path / "asked.jsonl", [prompt])
    done = run("finetune", files[0], "-m", gpt2, "-o", tmp_path / "out", "--eval-prompts", asked, "--max-steps", "1")
    assert done.code == 2, done.err
    assert message in done.err
    assert not list((tmp_path / "out").rglob("*.jsonl"))
