"""Workers on Ray: the bytes of one process, whatever dies; the same options, messages and journal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Copy, Process, Run, finish, read_rows, start, until, write_rows

SHORT = ["--max-new-tokens", "4"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster on this machine, with logical CPUs for six workers."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
        "RAY_worker_niceness": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, "include_dashboard": False})
    yield str(running.address)
    running.shutdown()


@pytest.fixture
def on_two(cluster: str) -> list[str]:
    return ["--workers", "2", "--ray", cluster]


@pytest.fixture
def on_one(cluster: str) -> list[str]:
    """For what one worker shows as well as two, which each import torch."""
    return ["--workers", "1", "--ray", cluster]


@pytest.fixture
def many(tmp_path: Path, ragged: list[str]) -> Path:
    """Two windows and a bit."""
    return write_rows(tmp_path / "many.jsonl", [{"id": i, "prompt": ragged[i % 24]} for i in range(2100)])


def record(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(out.with_name(out.name + ".run.json").read_text())
    return content


def test_a_worker_that_is_killed_costs_no_row_and_says_nothing_on_stdout(run: Run, tmp_path: Path, many: Path) -> None:
    one, out = tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    arguments = ["generate", "-i", many, *SHORT]
    assert run(*arguments, "-o", one).code == 0
    running = start(*arguments, "-o", out, "--workers", "2")
    journal = tmp_path / "out.jsonl.journal"

    def workers() -> list[psutil.Process]:
        return [child for child in psutil.Process(running.pid).children(recursive=True) if "ray::Worker" in " ".join(child.cmdline())]

    assert until(lambda: journal.exists() and b'"window"' in journal.read_bytes(), running)
    assert workers()[0].nice() == psutil.Process(running.pid).nice()
    workers()[0].kill()
    ran = finish(running)
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert out.read_bytes() == one.read_bytes()
    assert "died: its process ended; another one takes its place" in ran.err
    assert "2 workers on Ray" in ran.err
    found = record(out)["result"]["workers"]
    assert (found["count"], found["cluster"], found["died"]) == (2, "local", 1)
    assert record(out)["identity"] == record(one)["identity"]


def test_a_run_goes_on_with_more_workers_fewer_or_none(run: Run, tmp_path: Path, many: Path, cluster: str) -> None:
    one, out = tmp_path / "one.jsonl", tmp_path / "out.jsonl"
    arguments = ["generate", "-i", many, *SHORT]
    assert run(*arguments, "-o", one).code == 0
    journal, before = tmp_path / "out.jsonl.journal", 0
    for workers, tokens in ((["--workers", "1", "--ray", cluster], 9_000), ([], 15_000), (["--workers", "3", "--ray", cluster], 30_000)):
        assert run(*arguments, "-o", out, *workers, "--max-tokens-total", tokens).code == 124
        done = sum(len(json.loads(line[9:]).get("rows", ())) for line in journal.read_text().splitlines()[1:])
        assert done > before
        before = done
    last = run(*arguments, "-o", out)
    assert last.code == 0, last.err
    assert f"({before:,} from before)" in last.err
    assert out.read_bytes() == one.read_bytes()
    assert "already complete" in run(*arguments, "-o", out, "--workers", "2", "--ray", cluster).err


def test_answers_without_an_output_are_in_order_on_stdout(run: Run, prompts: Path, on_two: list[str]) -> None:
    alone = run("generate", "-i", prompts, *SHORT, "--verify-batching", "5")
    ran = run("generate", "-i", prompts, *SHORT, "--verify-batching", "5", "--batch-size", "4", *on_two)
    assert (ran.code, ran.out) == (0, alone.out), ran.err
    assert "5 rows gave the same answer when run alone" in ran.err


def test_a_model_by_a_relative_path_with_a_template_file_is_found(
    run: Run, tmp_path: Path, llama: Path, copy_of: Copy, prompts: Path, on_one: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_of(llama).parent)
    folder = next(path.name for path in Path().iterdir() if path.is_dir())
    Path("chat.jinja").write_text("{% for m in messages %}<{{ m.content }}>{% endfor %}")
    arguments = ["generate", "-i", prompts, "-m", folder, "--chat-template", "chat.jinja", "--engine", "torch", *SHORT]
    assert run(*arguments, "-o", tmp_path / "one.jsonl").code == 0
    ran = run(*arguments, "-o", tmp_path / "out.jsonl", *on_one)
    assert ran.code == 0, ran.err
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert record(tmp_path / "out.jsonl")["identity"] == record(tmp_path / "one.jsonl")["identity"]


def test_a_document_is_translated_with_its_counts(run: Run, tmp_path: Path, on_two: list[str]) -> None:
    document = tmp_path / "talk.md"
    document.write_text("# The **king**\n\nBonjour, la reine.\n\n" + "".join(f"The queen has {i} *small* houses.\n\n" for i in range(40)))
    arguments = ["translate", "-i", document, "--from", "en", "--to", "fr", "--num-beams", "1", "--max-errors", "99"]
    alone = run(*arguments, "-o", tmp_path / "one.md")
    ran = run(*arguments, "-o", tmp_path / "out.md", *on_two)
    assert ran.code == alone.code, ran.err
    assert (tmp_path / "out.md").read_bytes() == (tmp_path / "one.md").read_bytes()
    counted = [line for line in alone.err.splitlines() if "sentences" in line or "split and translated" in line]
    assert counted
    assert counted == [line for line in ran.err.splitlines() if "sentences" in line or "split and translated" in line]


@pytest.mark.parametrize("form", ["score", "choice", "perplexity"])
def test_scores_are_those_of_one_process(run: Run, tmp_path: Path, ragged: list[str], on_one: list[str], form: str) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text, "prompt": "Once", "reference": "upon a time"} for text in ragged])
    asked = write_rows(tmp_path / "asked.jsonl", [{"question": text, "choices": ["king", "the sea"], "answer": 0} for text in ragged])
    options = {
        "perplexity": ["-i", rows, "--against", "builtin:stories"],
        "choice": ["-i", asked],
        "score": ["-m", "builtin:stories", "-i", rows, "--metrics", "chrf", *SHORT],
    }
    arguments = ["evaluate", form, *options[form], "--batch-size", "4", "--json"]
    alone, ran = run(*arguments), run(*arguments, *on_one, "-o", tmp_path / "out.jsonl")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scores"] == json.loads(alone.out)["scores"]
    assert json.loads(ran.out)["signatures"] == json.loads(alone.out)["signatures"]


def test_the_cache_and_shards_are_those_of_one_process(run: Run, tmp_path: Path, prompts: Path, on_one: list[str]) -> None:
    asked = [{"question": f"Who is number {i}?", "choices": ["king", "sea"], "answer": 0} for i in range(20)]
    rows, cache = write_rows(tmp_path / "asked.jsonl", asked), tmp_path / "cache"
    arguments = ["evaluate", "choice", "-i", rows, "--cache", cache, "--batch-size", "4"]
    assert "0 rows from the cache" in run(*arguments, *on_one).err
    assert "20 rows from the cache" in run(*arguments).err
    job = ["generate", "-i", prompts, *SHORT, "--batch-size", "4"]
    assert run(*job, "-o", tmp_path / "one.jsonl").code == 0
    assert run(*job, "-o", tmp_path / "out.jsonl", "--shard", "1/2", *on_one).code == 0
    assert run(*job, "-o", tmp_path / "out.jsonl", "--shard", "2/2").code == 0
    assert run("gather", tmp_path / "out.jsonl").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_errors_of_rows_and_of_the_model_are_those_of_one_process(
    run: Run, tmp_path: Path, llama: Path, copy_of: Copy, on_one: list[str]
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "Once"}, {"prompt": None}, {"prompt": "upon"}])
    ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT, *on_one)
    assert (ran.code, "error" in read_rows(tmp_path / "out.jsonl")[1]) == (3, True)
    model = copy_of(llama)
    (model / "model.safetensors").write_bytes(b"")
    ran = run("generate", "-i", rows, "-o", tmp_path / "other.jsonl", "-m", model, *SHORT, *on_one)
    assert ran.code == 5
    assert "truncated" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--ray", "auto"], 2, "--ray needs --workers"),
        (["--cpus-per-worker", "1"], 2, "--cpus-per-worker needs --workers"),
        (["--workers", "0"], 2, "--workers must be 1 or more"),
        (["--workers", "2", "--ray", "ray://head:10001"], 2, "ray job submit"),
        (["--workers", "2", "--gpus-per-worker", "-1"], 2, "can't be negative"),
        (["--workers", "2", "--cpus-per-worker", "1.5"], 2, "--cpus-per-worker 1.5: Ray gives parts of one"),
        (["--workers", "2", "--gpus-per-worker", "0.00001"], 2, "of 0.0001 or more"),
        (["--workers", "2", "-m", "openai:some"], 2, "--concurrency"),
        (["--num-workers", "2", "--ray", "127.0.0.1:1"], 5, "there is no Ray cluster at 127.0.0.1:1"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else None,
)
def test_what_workers_cannot_be_is_said(run: Run, tmp_path: Path, prompts: Path, arguments: list[str], code: int, said: str) -> None:
    ran = run("generate", "-i", prompts, "-o", tmp_path / "out.jsonl", *arguments)
    assert ran.code == code, ran.err
    assert said in ran.err


def test_a_cluster_of_its_own_leaves_nothing_that_hinders_another(
    run: Run, tmp_path: Path, prompts: Path, on_one: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    arguments = ["generate", "-i", prompts, "-o", tmp_path / "out.jsonl", *SHORT]
    ran = run(*arguments, "--workers", "1", "--device", "cuda:1")
    assert ran.code == 2, ran.err
    assert "Ray gives each worker its own GPU" in ran.err
    assert not (tmp_path / "home" / ".ray").exists()  # a token there would be asked for by the user's other clusters
    ran = run(*arguments, *on_one)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["generate", "Once", "--workers", "2"], "--workers needs --input"),
        (["evaluate", "score", "-p", "a.txt", "-r", "b.txt", "--workers", "2"], "--workers needs --model"),
        (["evaluate", "perplexity", "-i", "a.txt", "--concatenate", "--workers", "2"], "--workers cannot be combined with --concatenate"),
    ],
    ids=lambda part: " ".join(part[:2]) if isinstance(part, list) else None,
)
def test_forms_that_workers_would_do_nothing_for_refuse_them(run: Run, arguments: list[str], why: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert why in ran.err


@pytest.mark.parametrize(
    "arguments", [["generate", "Once", *SHORT], ["translate", "Good morning.", "--to", "fr"]], ids=lambda words: words[0]
)
def test_workers_of_the_environment_are_for_rows(run: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(*arguments)
    monkeypatch.setenv("LLMKIT_WORKERS", "2")
    ran = run(*arguments)
    assert (ran.code, ran.out, ran.err) == (0, alone.out, alone.err)


def test_without_ray_the_message_says_what_to_install(process: Process, tmp_path: Path, prompts: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('blocked')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = process("generate", "-i", prompts, "-o", tmp_path / "out.jsonl", "--workers", "2", env={"PYTHONPATH": path})
    assert ran.code == 5
    assert "--workers needs Ray" in ran.err
    assert "pip install 'llmkit[ray]'" in ran.err
