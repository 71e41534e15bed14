"""--cache: rows that were answered before are not answered again, and nothing but their answer is taken from it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, finish, write_rows
from forking import Forked

from llmkit.jobs.cache import Cache
from llmkit.jobs.outcome import Answer
from llmkit.jobs.reporter import Silent

TEXTS = ["The boy ran home.", "She opened the window.", "They walked along the river.", "It rained all day."]
QUESTIONS = [{"question": f"What is {i}?", "choices": ["honey", "stone"], "answer": 0} for i in range(4)]
PROMPTS = [{"prompt": f"the king {i}", "reference": "and"} for i in range(4)]
COMMANDS: dict[str, tuple[list[str], Sequence[dict[str, Any]]]] = {
    "perplexity": (["perplexity"], [{"text": text} for text in TEXTS]),
    "against": (["perplexity", "--against", "builtin:stories"], [{"text": text} for text in TEXTS]),
    "choice": (["choice"], QUESTIONS),
    "score": (["score", "-m", "builtin:stories", "--metrics", "exact_match,chrf", "--max-new-tokens", "3"], PROMPTS),
    "sampled": (["score", "-m", "builtin:stories", "--metrics", "chrf", "--max-new-tokens", "3", "--temperature", "1"], PROMPTS),
}


def known(err: str) -> int:
    """How many rows a run says to have from the cache."""
    match = re.search(r"([\d,]+) rows? from the cache", err)
    assert match is not None, err
    return int(match[1])


@pytest.mark.parametrize("name", COMMANDS)
def test_unchanged_rows_are_not_run_again_and_give_the_same_result(run: Run, tmp_path: Path, name: str) -> None:
    command, content = COMMANDS[name]
    rows, cache = write_rows(tmp_path / "rows.jsonl", list(content)), tmp_path / "cache"
    without = run("evaluate", *command, "-i", rows, "--json")
    first = run("evaluate", *command, "-i", rows, "--json", "--cache", cache)
    second = run("evaluate", *command, "-i", rows, "--json", "--cache", cache)
    assert (first.code, known(first.err), known(second.err)) == (0, 0, 4)
    assert without.out == first.out == second.out


@pytest.mark.parametrize("name", ["perplexity", "choice", "score"])
def test_a_change_in_the_test_set_runs_only_its_rows(run: Run, tmp_path: Path, name: str) -> None:
    command, content = COMMANDS[name]
    cache = tmp_path / "cache"
    assert run("evaluate", *command, "-i", write_rows(tmp_path / "a.jsonl", list(content)), "--cache", cache).code == 0
    changed = [content[3], {**content[0], "note": "new"}, content[2]]
    rows = write_rows(tmp_path / "b.jsonl", changed)
    ran = run("evaluate", *command, "-i", rows, "--cache", cache, "--json")
    assert known(ran.err) == 2
    assert json.loads(ran.out)["scores"] == pytest.approx(
        json.loads(run("evaluate", *command, "-i", rows, "--json").out)["scores"], rel=1e-5
    )


def test_answers_serve_any_metric_and_no_other_conditions(run: Run, tmp_path: Path, gpt2: Path) -> None:
    command, content = COMMANDS["score"]
    rows, cache = write_rows(tmp_path / "rows.jsonl", list(content)), tmp_path / "cache"
    assert run("evaluate", *command, "-i", rows, "--cache", cache).code == 0
    for options, found in (
        (["--metrics", "bleu"], 4), (["--limit", "2"], 2), (["--max-new-tokens", "2"], 0), (["--stop", "e"], 0), (["--seed", "3"], 0),
        (["-m", str(gpt2)], 0),
    ):  # fmt: skip
        ran = run("evaluate", *command, *options, "-i", rows, "--cache", cache)
        assert (ran.code, known(ran.err)) == (0, found), options


def test_a_sampled_answer_belongs_to_its_place(run: Run, tmp_path: Path) -> None:
    command, content = COMMANDS["sampled"]
    cache = tmp_path / "cache"
    twice = write_rows(tmp_path / "a.jsonl", [content[0], content[0]])
    assert run("evaluate", *command, "-i", twice, "--cache", cache, "-o", tmp_path / "out.jsonl").code == 0
    moved = run("evaluate", *command, "-i", write_rows(tmp_path / "b.jsonl", [content[1], content[0]]), "--cache", cache)
    assert known(moved.err) == 1


def test_failed_rows_are_not_kept(run: Run, tmp_path: Path) -> None:
    rows, cache = write_rows(tmp_path / "rows.jsonl", [{"text": "A king."}, {"text": None}]), tmp_path / "cache"
    for _ in range(2):
        ran = run("evaluate", "perplexity", "-i", rows, "--cache", cache, "--max-errors", "5")
        assert ran.code == 3
    assert known(ran.err) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', "flip", "swap", "huge"])
def test_damaged_entries_are_made_anew(run: Run, tmp_path: Path, damage: str) -> None:
    rows, cache = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS]), tmp_path / "cache"
    command = ["evaluate", "perplexity", "-i", rows, "--cache", cache, "--json"]
    first = run(*command)
    entries = sorted(cache.glob("*/*.json"))
    good = [entry.read_text() for entry in entries]
    changed = {"flip": good[0].replace("log_likelihood", "log_likelihooe"), "swap": good[1], "huge": good[0] + " " * (1 << 25)}
    entries[0].write_text(changed.get(damage, damage))
    again = run(*command)
    assert (again.code, known(again.err), again.out) == (0, 3, first.out)
    assert sorted(json.loads(entry.read_text())["key"] for entry in entries) == sorted(json.loads(text)["key"] for text in good)
    assert known(run(*command).err) == 4


def test_two_processes_share_a_cache(run: Run, tmp_path: Path) -> None:
    rows, cache = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS]), tmp_path / "cache"
    command = ["evaluate", "perplexity", "-i", rows, "--cache", cache, "--json"]
    both = [finish(running) for running in [Forked(*command), Forked(*command)]]
    assert [ran.code for ran in both] == [0, 0]
    assert both[0].out == both[1].out
    assert known(run(*command).err) == 4
    assert len(list(cache.glob("*/*"))) == 4


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"), Silent(), most_bytes=3000)
    keys = [f"{i:064x}" for i in range(20)]
    for age, key in enumerate(keys):
        cache.put(key, Answer({"text": "x" * 100}))
        os.utime(tmp_path / "cache" / key[:2] / f"{key[2:]}.json", (1000 + age, 1000 + age))
    assert cache.get(keys[0]) == Answer({"text": "x" * 100})
    mine = tmp_path / "cache" / keys[0][:2] / "notes.json"
    mine.write_text("mine")
    cache.trim()
    left = [key for key in keys if cache.get(key) is not None]
    assert keys[0] in left
    assert left[1:] == keys[-len(left) + 1 :]
    assert sum(p.stat().st_size for p in (tmp_path / "cache").glob("*/*")) <= 3000
    assert mine.read_text() == "mine"


def test_a_cache_that_someone_removes_during_a_run_loses_its_entries_alone(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"), Silent())
    cache.put("0" * 64, Answer({"text": "x"}))
    shutil.rmtree(tmp_path / "cache")
    cache.trim()
    assert cache.get("0" * 64) is None


@pytest.mark.parametrize("place", ["file", "filled", "missing/folder", "tagged"])
def test_a_folder_that_is_no_cache_of_ours_is_refused_before_the_model_loads(run: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "thesis.txt").write_text("mine")
    (tmp_path / "tagged").mkdir()
    (tmp_path / "tagged" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# pytest\n")
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "A king."}])
    ran = run("evaluate", "perplexity", "-m", tmp_path / "no-model", "-i", rows, "--cache", tmp_path / place)
    assert ran.code == 2
    assert "--cache" in ran.err
    assert (tmp_path / "filled" / "thesis.txt").read_text() == "mine"


def test_a_cache_that_can_not_be_written_does_not_end_the_run(run: Run, tmp_path: Path) -> None:
    rows, cache = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS]), tmp_path / "cache"
    assert run("evaluate", "perplexity", "-i", rows, "--cache", cache, "--limit", "1").code == 0
    for name in range(256):  # a file where the folder of an entry goes
        folder = cache / f"{name:02x}"
        if not folder.exists():
            folder.write_text("")
    ran = run("evaluate", "perplexity", "-i", rows, "--cache", cache)
    assert ran.code == 0
    assert ran.err.count("cannot be written") == 1


def test_a_cached_job_still_writes_its_output_and_record(run: Run, tmp_path: Path) -> None:
    rows, cache = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS]), tmp_path / "cache"
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    assert run("evaluate", "perplexity", "-i", rows, "--cache", cache, "-o", one).code == 0
    assert run("evaluate", "perplexity", "-i", rows, "--cache", cache, "-o", other).code == 0
    assert one.read_bytes() == other.read_bytes()
    assert run("evaluate", "perplexity", "-i", rows, "-o", other).code == 0  # the cache is no part of what the run is


def test_the_folder_of_converted_models_is_no_cache_of_rows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option has a variable: LLMKIT_CACHE is --cache's, so the folder for what is converted has another name."""
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": TEXTS[0]}])
    monkeypatch.setenv("LLMKIT_HOME", str(tmp_path / "home"))
    assert "from the cache" not in run("evaluate", "perplexity", "-i", rows).err
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("LLMKIT_CACHE", str(tmp_path / "cache"))
    assert known(run("evaluate", "perplexity", "-i", rows).err) == 0
    assert known(run("evaluate", "perplexity", "-i", rows).err) == 1
