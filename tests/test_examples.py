"""The examples run as they stand, on the models in the package and without a network."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Protocol

import pytest
from conftest import Run, read_rows

EXAMPLES = Path(__file__).parent.parent / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())


class Example(Protocol):
    """Runs a script of examples/ with these arguments and variables of its environment."""

    def __call__(self, name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def example(forking: str) -> Example:
    def call(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(EXAMPLES / name), *map(str, arguments)]
        environment = {**os.environ, "PATH": forking, **variables}
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    return call


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_example_is_told_and_listed(folder: Path) -> None:
    said = (folder / "README.md").read_text()
    assert f"({folder.name}/README.md)" in (EXAMPLES / "README.md").read_text()
    for script in folder.glob("*.sh"):
        assert f"examples/{folder.name}/{script.name}" in said
        assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", ["summarize/summarize.sh", "translate/translate.sh", "scaling/law.sh"])
def test_a_script_without_its_folder_says_how_to_call_it(example: Example, script: str) -> None:
    ran = example(script)
    assert ran.returncode != 0
    assert f"usage: {Path(script).name} FOLDER" in ran.stderr


def test_beam_search_falls_back_to_the_built_in_model_without_a_network(example: Example, run: Run, tmp_path: Path) -> None:
    done = example("gpt2/beam-search.sh", "Once upon a time", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 0
    options = ["--max-length", "50", "--num-beams", "5", "--no-repeat-ngram-size", "2", "--echo"]
    assert done.stdout == run("generate", "Once upon a time", *options).out


def test_every_text_of_a_folder_is_summarized(example: Example, tmp_path: Path) -> None:
    notes = EXAMPLES / "summarize" / "notes"
    done = example("summarize/summarize.sh", notes, tmp_path / "summaries.jsonl", MAX_NEW_TOKENS="8")
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path / "summaries.jsonl")
    assert [row["file"] for row in rows] == sorted(path.name for path in notes.iterdir())
    assert all(row["text"] == (notes / row["file"]).read_text().strip() and row["summary"] for row in rows)


def test_a_model_that_cannot_program_fails_the_gate_and_right_programs_pass(example: Example) -> None:
    failed = example("code/complete.sh", SAMPLES="1", TEMPERATURE="0", MAX_NEW_TOKENS="16")
    assert failed.returncode == 4, failed.stderr
    assert "pass@1 0 fails 'pass@1 < 50'" in failed.stderr
    passed = example("code/complete.sh", "solved")
    assert passed.returncode == 0, passed.stderr
    assert "100.00" in passed.stdout


def test_questions_and_reviews_are_measured_in_one_suite(example: Example, tmp_path: Path) -> None:
    done = example("choice/quiz.sh", tmp_path / "quiz.json")
    assert done.returncode == 0, done.stderr
    scores = {name: float(value) for name, value, *_ in (line.split() for line in done.stdout.splitlines()[1:])}
    assert scores["quiz.accuracy"] == scores["sentiment.accuracy"] == 100
    assert (tmp_path / "quiz.json").exists()


def test_subtitles_and_a_manual_keep_their_structure(example: Example, tmp_path: Path) -> None:
    done = example("translate/translate.sh", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    talk, manual = (tmp_path / "out" / "talk.fr.srt").read_text(), (tmp_path / "out" / "manual.fr.md").read_text()
    assert "00:00:04,000 --> 00:00:06,500\n<i>Où se trouve la gare ?</i>" in talk
    assert "```sh\nlamp on 3\n```" in manual
    assert "](https://example.org/rules)" in manual
    assert "gare" in manual


def test_three_sizes_are_trained_and_their_law_is_drawn(example: Example, tmp_path: Path) -> None:
    speeches = (EXAMPLES / "finetune" / "shakespeare.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "texts.jsonl").write_text("".join(speeches[:200]))
    done = example("scaling/law.sh", tmp_path, tmp_path / "texts.jsonl", WIDTHS="16 32 64", STEPS="6")
    assert done.returncode == 0, done.stderr
    losses = [json.loads((tmp_path / f"width-{width}.json").read_text())["scores"]["bits_per_byte"] for width in (16, 32, 64)]
    assert losses == sorted(losses, reverse=True)
    assert "bits_per_byte: L(N) = " in done.stderr
    assert (tmp_path / "law.svg").exists()


def test_the_style_example_learns_the_style(example: Example, tmp_path: Path) -> None:
    done = example("finetune/style.sh", tmp_path / "adapter", LLMKIT_MAX_STEPS="18", LLMKIT_EVAL_STEPS="18", LLMKIT_SAVE_STEPS="18")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "adapter" / "run.json").read_text())["result"]["figures"]
    assert figures["after"]["token_perplexity"]["value"] < 0.3 * figures["before"]["token_perplexity"]["value"]
    before, after = (part.splitlines()[1:] for part in done.stdout.split("--- ")[1:])
    assert before != after


def test_the_chat_example_teaches_an_answer(example: Example, tmp_path: Path) -> None:
    done = example("finetune/chat.sh", tmp_path / "adapter")
    assert done.returncode == 0, done.stderr
    assert "The opposite of hot is cold." in done.stdout
