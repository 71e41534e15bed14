"""What makes a run this run: every option of every command is part of it, or is known to change nothing."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Copy, Run, write_rows

from llmkit.records import CANNOT_CHANGE_AN_ANSWER, differences, identity

#: For each command a job on one output, and a way to change each of its options that is part of the identity.
ROWS = [{"id": i, "prompt": f"the king {i}", "text": f"the queen {i}", "reference": "and", "note": f"a house {i}"} for i in range(3)]
QUESTIONS = [
    {"question": "Who lived in a house?", "premise": "Who?", "choices": ["king", "sea"], "answer": 0, "other": 1} for _ in range(3)
]
JOBS: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "generate": (
        ["generate", "-i", "rows.jsonl", "--max-new-tokens", "2"],
        {
            "input_format": ["jsonl"], "encoding": ["latin-1"], "limit": ["2"], "template": ["{note}"], "prompt_field": ["note"],
            "output_field": ["answer"], "continue": [], "max_new_tokens": ["3"], "min_new_tokens": ["1"], "temperature": ["1"],
            "top_k": ["5", "--temperature", "1"], "top_p": ["0.5", "--temperature", "1"], "min_p": ["0.1", "--temperature", "1"],
            "repetition_penalty": ["1.5"], "no_repeat_ngram_size": ["2"], "num_beams": ["2"], "length_penalty": ["2", "--num-beams", "2"],
            "num_samples": ["2", "--temperature", "1"], "stop": ["e"], "seed": ["7"], "prompt_lookup": ["3"],
            "stop_token": ["e"], "generation_config": ["model"],
            "json_schema": ['{"type": "string"}'],
            "regex": ["[a-z]+"], "truncate": ["left"], "logprobs": [], "batch_size": ["2"], "batch_tokens": ["999"], "threads": ["1"],
        },
    ),
    "translate": (
        ["translate", "-i", "rows.jsonl", "--to", "fr", "--text-field", "text"],
        {
            "from": ["en"], "to": ["French"], "input_format": ["jsonl"], "encoding": ["latin-1"], "limit": ["2"], "text_field": ["note"],
            "output_field": ["fr"], "num_beams": ["2"], "length_penalty": ["2"], "max_new_tokens": ["9"], "n_best": ["2"], "scores": [],
            "glossary": ["terms.csv"], "batch_size": ["2"], "batch_tokens": ["999"], "threads": ["1"],
        },
    ),
    "evaluate perplexity": (
        ["evaluate", "perplexity", "-i", "rows.jsonl"],
        {
            "input_format": ["jsonl"], "encoding": ["latin-1"], "limit": ["2"], "text_field": ["note"], "context": ["64"],
            "stride": ["32"], "batch_size": ["2"], "batch_tokens": ["999"], "against": ["builtin:stories"], "threads": ["1"],
        },
    ),
    "evaluate choice": (
        ["evaluate", "choice", "-i", "questions.jsonl"],
        {
            "input_format": ["jsonl"], "encoding": ["latin-1"], "limit": ["2"], "template": ["{premise}"], "labels": ["king,sea"],
            "answer_field": ["other"], "batch_size": ["2"], "batch_tokens": ["999"], "threads": ["1"],
        },
    ),
    "evaluate score": (
        ["evaluate", "score", "-m", "builtin:stories", "-i", "rows.jsonl", "--metrics", "exact_match", "--max-new-tokens", "2"],
        {
            "input_format": ["jsonl"], "encoding": ["latin-1"], "limit": ["2"], "source_field": ["note"], "reference_field": ["text"],
            "max_new_tokens": ["3"], "num_beams": ["2"], "stop": ["e"], "batch_size": ["2"], "batch_tokens": ["999"], "threads": ["1"],
            "temperature": ["1"], "top_k": ["5", "--temperature", "1"], "top_p": ["0.5", "--temperature", "1"],
            "min_p": ["0.1", "--temperature", "1"], "seed": ["7"], "repeat": ["2", "--temperature", "1"],
        },
    ),
}  # fmt: skip
CHANGES = [(command, name) for command, (_, changes) in JOBS.items() for name in changes]
#: Options whose change the identity holds, but that the walk can't try on this output: a reason each.
NOT_TRIED = {
    "max_length": "excludes --max-new-tokens (its own test)",
    "chat_template_kwargs": "needs a chat template (tests/test_template_values.py)",
    "system": "has its own test below", "draft_model": "has its own test below", "pivot": "has its own test below",
    "pivot_model": "has its own test below", "retranslate_fuzzy": "of catalogs (test_translate_catalogs.py)", "mark_fuzzy": "of catalogs",
    "completion_only": "has its own test below", "by_line": "has its own test below", "concatenate": "takes no output",
    "shard": "each shard has an output of its own", "output_format": "has its own test below",
    "prediction_field": "of saved outputs", "predictions": "takes no output", "references": "takes no output",
}  # fmt: skip
#: Options that decide the number made of the answers, not the answers: `evaluate score` computes it anew from the rows.
OF_THE_METRIC = {
    "metrics", "tokenize", "lowercase", "smooth_method", "smooth_value", "chrf_char_order", "chrf_word_order", "chrf_beta",
    "chrf_whitespace", "chrf_eps_smoothing", "effective_order", "ter_normalized", "ter_no_punct", "ter_asian_support", "ter_case_sensitive",
    "confidence", "confidence_n", "paired_bs", "paired_ar", "paired_bs_n", "paired_ar_n", "normalize",
}  # fmt: skip


def command_options(command: str) -> list[str]:
    from llmkit.cli.app import app

    found: Any = typer.main.get_command(app)
    context = typer.Context(found, info_name="llmkit")
    for word in command.split():
        context.meta["llmkit.resolving"] = True
        found = found.get_command(context, word)
        context = typer.Context(found, info_name=word, parent=context)
    return [p.opts[0].lstrip("-").replace("-", "_") for p in found.params if p.opts[0].startswith("-")]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [dict(row) for row in ROWS])
    write_rows(tmp_path / "questions.jsonl", [dict(row) for row in QUESTIONS])
    (tmp_path / "terms.csv").write_text("queen,reine\n")
    return tmp_path


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    """Each job's finished output and record, made once."""
    return {}


@pytest.mark.parametrize("command", JOBS)
def test_every_option_is_tried_or_listed(command: str) -> None:
    tried = JOBS[command][1].keys()
    known = tried | CANNOT_CHANGE_AN_ANSWER.keys() | NOT_TRIED.keys() | OF_THE_METRIC | {"help"}
    assert set(command_options(command)) <= known


def test_every_option_of_bleu_is_one_of_score_which_it_runs() -> None:
    assert set(command_options("evaluate bleu")) <= set(command_options("evaluate score"))


@pytest.mark.parametrize(("command", "name"), CHANGES, ids=lambda part: str(part).replace(" ", "-"))
def test_an_option_that_changes_between_two_runs_on_one_output_is_refused_by_name(
    run: Run, files: Path, outputs: dict[str, tuple[bytes, bytes]], command: str, name: str
) -> None:
    arguments, changes = JOBS[command]
    out, record = files / "out.jsonl", files / "out.jsonl.run.json"
    if command not in outputs:
        first = run(*arguments, "-o", out)
        assert first.code == 0, first.err
        outputs[command] = (out.read_bytes(), record.read_bytes())
    out.write_bytes(outputs[command][0])
    record.write_bytes(outputs[command][1])
    ran = run(*arguments, "-o", out, f"--{name.replace('_', '-')}", *changes[name])
    assert ran.code == 2, ran.err
    assert f"{name} was" in ran.err
    assert out.read_bytes() == outputs[command][0]


@pytest.mark.parametrize(
    "change",
    [
        ["--dtype", "float32"], ["--device", "cpu"], ["--offline"], ["--quiet"], ["--verbose"], ["--max-errors", "3"], ["--max-time", "1h"],
        ["--verify-batching", "1"], ["--quantize", "none"], ["--max-tokens-total", "9999"], ["--overwrite"], ["--model", "builtin:stories"],
        ["--chat-template", "none"],
    ],
    ids=lambda change: change[0],
)  # fmt: skip
def test_an_option_on_the_list_changes_no_byte(run: Run, files: Path, change: list[str]) -> None:
    out, other = files / "out.jsonl", files / "other.jsonl"
    arguments = ["generate", "-i", "rows.jsonl", "--max-new-tokens", "2"]
    assert run(*arguments, "-o", out).code == 0
    assert run(*arguments, "-o", other, *change).code == 0
    assert other.read_bytes() == out.read_bytes()
    assert run(*arguments, "-o", out, *change).code == 0


def test_the_name_of_the_input_and_no_failed_row_change_no_byte(run: Run, files: Path) -> None:
    arguments = ["generate", "--max-new-tokens", "2", "-o", "out.jsonl", "-i"]
    assert run(*arguments, "rows.jsonl").code == 0
    before = (files / "out.jsonl").read_bytes()
    (files / "rows.jsonl").rename(files / "others.jsonl")
    assert "already complete" in run(*arguments, "others.jsonl").err
    assert run(*arguments, "others.jsonl", "--retry-failed").code == 0
    assert (files / "out.jsonl").read_bytes() == before


def test_a_changed_output_format_is_refused(run: Run, files: Path) -> None:
    arguments = ["generate", "-i", "rows.jsonl", "-o", "out.jsonl", "--max-new-tokens", "2"]
    assert run(*arguments).code == 0
    assert "output_format was unset, is openai-batch" in run(*arguments, "--output-format", "openai-batch").err


def test_a_changed_max_length_is_refused(run: Run, files: Path) -> None:
    arguments = ["generate", "-i", "rows.jsonl", "-o", "out.jsonl", "--max-length"]
    assert run(*arguments, "20").code == 0
    assert "max_length was 20, is 21" in run(*arguments, "21").err


def test_the_rows_that_were_read_are_part_of_a_run_with_a_limit_too(run: Run, files: Path) -> None:
    arguments = ["generate", "-i", "rows.jsonl", "-o", "out.jsonl", "--limit", "2", "--max-new-tokens", "2"]
    assert run(*arguments).code == 0
    assert run(*arguments).code == 0
    write_rows(files / "rows.jsonl", [{"prompt": "another"}, {"prompt": "row"}])
    ran = run(*arguments)
    assert ran.code == 2
    assert "rows_sha256 was" in ran.err


def test_the_content_of_a_file_that_an_option_names_is_part_of_a_run(run: Run, files: Path) -> None:
    arguments = ["translate", "-i", "rows.jsonl", "-o", "out.jsonl", "--to", "fr", "--text-field", "text", "--glossary", "terms.csv"]
    assert run(*arguments).code == 0
    (files / "terms.csv").write_text("queen,souveraine\n")
    ran = run(*arguments)
    assert ran.code == 2
    assert "glossary_sha256 was" in ran.err


def test_a_finished_output_that_was_changed_is_not_complete(run: Run, files: Path) -> None:
    arguments = ["generate", "-i", "rows.jsonl", "-o", "out.jsonl", "--max-new-tokens", "2"]
    assert run(*arguments).code == 0
    (files / "out.jsonl").write_text("")
    ran = run(*arguments)
    assert ran.code == 2
    assert "its content has changed since the run wrote it" in ran.err
    assert run(*arguments, "--overwrite").code == 0
    assert len((files / "out.jsonl").read_text().splitlines()) == 3


def test_a_new_option_is_part_of_an_identity_unless_it_is_taken_out() -> None:
    before = identity("generate", {"seed": 0, "new_option": "a"})
    after = identity("generate", {"seed": 0, "new_option": "b"})
    assert differences(before, after) == ["new_option was a, is b"]
    assert differences(identity("generate", {"output": "a"}), identity("generate", {"output": "b"})) == []
    assert all(inspect.cleandoc(reason) for reason in CANNOT_CHANGE_AN_ANSWER.values())


@pytest.mark.parametrize(
    ("extra", "kept"),
    [
        ({"error": None}, {"error": None}), ({"error": "E404"}, {"error": "E404"}), ({"log_likelihood": -3.0}, {"log_likelihood": -3.0}),
        ({"tokens": ["EU"]}, {"tokens": ["EU"]}), ({"window": 0, "rows": 5}, {"window": 0, "rows": 5}), ({"choice": {}}, {"choice": {}}),
        ({"finish_reason": "mine"}, {"finish_reason": "length"}), ({"completion_tokens": "many"}, {"completion_tokens": 2}),
    ],
)  # fmt: skip
def test_a_field_of_the_input_is_never_read_as_a_signal(
    run: Run, tmp_path: Path, extra: dict[str, object], kept: dict[str, object]
) -> None:
    rows, out = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once", **extra}]), tmp_path / "out.jsonl"
    ran = run("generate", "-i", rows, "-o", out, "--max-new-tokens", "2")
    assert ran.code == 0, ran.err
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert {name: row[name] for name in kept} == kept
    assert isinstance(row["text"], str)
    assert ("replace fields of the input" in ran.err) is (extra != kept)
    assert "--output-field" not in ran.err  # which can't name these
    assert run("generate", "-i", out, "-o", tmp_path / "again.jsonl", "--max-new-tokens", "2").code == 0


def test_failed_rows_run_again_when_the_answer_replaces_a_field(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once", "finish_reason": "mine", "error": None}, {"prompt": None}])
    arguments = ["generate", "-i", rows, "-o", tmp_path / "out.jsonl", "--max-new-tokens", "2"]
    assert run(*arguments).code == 3
    before = (tmp_path / "out.jsonl").read_bytes()
    ran = run(*arguments, "--retry-failed")
    assert ran.code == 3
    assert "1 of 2 rows failed" in ran.err
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_a_template_may_name_the_field_that_the_answer_takes(run: Run, tmp_path: Path) -> None:
    rows, out = write_rows(tmp_path / "in.jsonl", [{"text": "A king."}]), tmp_path / "out.jsonl"
    ran = run("generate", "-i", rows, "-o", out, "--template", "Summarize: {text}", "--max-new-tokens", "2")
    assert ran.code == 0
    assert "'text'" in ran.err
    assert "choose another name with --output-field" in ran.err
    both = ["generate", "-i", rows, "-o", out, "--template", "Summarize: {text}", "--max-new-tokens", "2", "--output-field", "summary"]
    assert run(*both, "--overwrite").code == 0
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["text"] == "A king."
    assert isinstance(row["summary"], str)


def test_what_is_made_of_a_result_changes_no_byte_of_the_scored_rows(run: Run, files: Path) -> None:
    out, other = files / "out.jsonl", files / "other.jsonl"
    arguments = ["evaluate", "perplexity", "-i", "rows.jsonl"]
    assert run(*arguments, "-o", out, "--report", "base.json").code == 0
    changes = [
        ["--fail-if", "token_perplexity > 1e9"], ["--report", "r.md"], ["--json"], ["--baseline", "base.json"],
        ["--baseline", "base.json", "--test", "bootstrap"], ["--baseline", "base.json", "--max-regression", "2%"], ["--debug"],
        ["--cache", "kept"],
    ]  # fmt: skip
    for change in changes:
        assert run(*arguments, "-o", out, *change).code == 0, change
        assert run(*arguments, "-o", other, "--overwrite", *change).code == 0
        assert other.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "change", "name"),
    [
        (["generate", "-i", "rows.jsonl", "-m", "LLAMA"], ["--system", "Be kind."], "system"),
        (["generate", "-i", "rows.jsonl"], ["--draft-model", "builtin:stories"], "model.engine"),
        (["generate", "-i", "rows.jsonl"], ["--engine", "torch"], "model.engine"),
        (["evaluate", "perplexity", "-i", "lines.txt"], ["--by-line"], "by_line"),
        (
            ["evaluate", "perplexity", "-m", "LLAMA", "-i", "pairs.jsonl"],
            ["--completion-only", "--chat-template", "none"],
            "completion_only",
        ),
        (["translate", "-i", "rows.jsonl", "-m", "LLAMA", "--to", "fr", "--text-field", "text"], ["--pivot", "de"], "pivot"),
        (
            ["translate", "-i", "rows.jsonl", "-m", "LLAMA", "--to", "fr", "--text-field", "text", "--pivot", "de"],
            ["--pivot-model", "COPY"],
            "pivot_model",
        ),
        (["generate", "-i", "rows.jsonl", "-m", "LLAMA", "--chat-template", "none"], ["--adapter", "ADAPTER"], "model.adapter"),
    ],
    ids=lambda part: str(part[0]) if isinstance(part, list) else str(part),
)
def test_options_that_need_a_model_of_their_own_are_refused_by_name(
    run: Run, files: Path, llama: Path, copy_of: Copy, arguments: list[str], change: list[str], name: str
) -> None:
    write_rows(files / "pairs.jsonl", [{"prompt": "the king", "completion": " lived", "text": "the king lived"}])
    (files / "lines.txt").write_text("the king\nthe queen\n")
    named = {"LLAMA": llama, "COPY": copy_of(llama) if "COPY" in change else None, "ADAPTER": files / "adapter"}
    job = [str(named.get(word, word)) for word in arguments]
    change = [str(named.get(word, word)) for word in change]
    if "--adapter" in change:
        trained = ["--max-steps", "1", "--lora-r", "2", "--chat-template", "none", "-q"]
        assert run("finetune", "rows.jsonl", "-m", llama, "-o", "adapter", "--text-field", "text", *trained).code == 0
    job += [] if job[0] == "evaluate" else ["--max-new-tokens", "2"]
    run(*job, "-o", "out.jsonl")
    before = (files / "out.jsonl").read_bytes()
    ran = run(*job, "-o", "out.jsonl", *change)
    assert ran.code == 2, ran.err
    assert f"{name} was" in ran.err
    assert (files / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        ["--trust-remote-code"], ["--engine", "torch"], ["--restart"], ["--config", "empty.toml"], ["--debug"], ["--device-map", "auto"],
    ],
    ids=lambda c: c[0],
)  # fmt: skip
def test_an_option_on_the_list_changes_no_byte_of_another_models_answers(run: Run, files: Path, llama: Path, change: list[str]) -> None:
    (files / "empty.toml").write_text("")
    arguments = ["generate", "-m", llama, "-i", "rows.jsonl", "--max-new-tokens", "2", "--chat-template", "none"]
    assert run(*arguments, "-o", "out.jsonl").code == 0
    assert run(*arguments, "-o", "other.jsonl", *change).code == 0
    assert (files / "other.jsonl").read_bytes() == (files / "out.jsonl").read_bytes()
    assert run(*arguments, "-o", "out.jsonl", *change).code == 0


@pytest.mark.parametrize("change", [["--echo"], ["--json"], ["-v"]], ids=lambda c: c[0])
def test_what_is_printed_beside_an_answer_changes_no_byte_of_it(run: Run, change: list[str]) -> None:
    arguments = ["generate", "Once upon a", "--max-new-tokens", "4"]
    plain, changed = run(*arguments), run(*arguments, *change)
    answer = json.loads(changed.out)["text"] if change == ["--json"] else changed.out.removeprefix("Once upon a")
    assert (changed.code, answer.rstrip("\n")) == (0, plain.out.rstrip("\n"))


def test_a_list_of_languages_touches_no_output(run: Run, files: Path) -> None:
    arguments = ["translate", "-i", "rows.jsonl", "-o", "out.jsonl", "--to", "fr", "--text-field", "text"]
    assert run(*arguments).code == 0
    before = (files / "out.jsonl").read_bytes(), (files / "out.jsonl.run.json").read_bytes()
    assert run("translate", "--languages").code == 0
    assert ((files / "out.jsonl").read_bytes(), (files / "out.jsonl.run.json").read_bytes()) == before
    assert run(*arguments).code == 0
