"""Usage errors: before anything heavy is imported, under the name that the user gave, and never ignored in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, Process, Run, until, write_rows
from test_console import on_a_terminal

#: Arguments, and what the message must name.
EARLY = [
    ("generate x --device gpu", "--device: 'gpu'"),
    ("generate x --device cuda:x", "--device: 'cuda:x'"),
    ("generate x --dtype float8", "--dtype: 'float8'"),
    ("generate x --quantize 4bit", "--quantize: '4bit'"),
    ("generate x --temperature hot", "--temperature: 'hot' is not a number"),
    ("generate x --temp 0,7", "--temp: '0,7' is not a number (write 0.7)"),
    ("generate x --truncate middle", "--truncate: 'middle'"),
    ("generate x --seed -1", "--seed: '-1'"),
    ("generate -i x.jsonl --input-format xml", "--input-format: 'xml'"),
    ("generate -i x.jsonl --encoding klingon", "--encoding: 'klingon'"),
    ("generate -i x.jsonl --batch-size many", "--batch-size: 'many'"),
    ("generate -i x.jsonl --max-time soon", "--max-time: 'soon'"),
    ("generate x --regex (", 'invalid regex "("'),
    ("generate x --regex (?=a)b", "look-around"),
    ("generate x --json-schema {", "--json-schema: not JSON"),
    ('generate x --json-schema {"type":"strin"}', "Invalid type: strin"),
    ("generate x --json-schema none.json", "none.json: the schema can't be read"),
    ("generate x --chat-template none.jinja", "none.jinja"),
    ("generate x --draft-model builtin:storis", "did you mean 'stories'?"),
    ("translate hi --to Frensh", "--to: 'Frensh'"),
    ("translate hi --from fr --to fr", "--from and --to are both French"),
    ("translate hi --to fr --max-new-tokens 0", "--max-new-tokens 0: it must be 1 or more"),
    ("translate hi --from Inglish --to fr", "--from: 'Inglish'"),
    ("translate hi --to fr --pivot Ggerman", "--pivot: 'Ggerman'"),
    ("translate hi --to fr --pivot-model a/b", "--pivot-model"),
    ("translate hi --to fr --n-best 0", "--n-best 0"),
    ("evaluate perplexity -i x.txt --fail-if perplexty>3", "perplexty"),
    ("evaluate perplexity -i x.txt --test t", "--test: 't'"),
    ("evaluate perplexity -i x.txt --context 0", "--context 0: it must be 1 or more"),
    ("evaluate perplexity -i x.txt --stride 0", "--stride 0: it must be 1 or more"),
    ("evaluate perplexity -i x.txt --context 8 --stride 9", "--stride 9: it must be between 1 and the context, 8"),
    ("evaluate perplexity -m builtin:storis -i there.txt", "did you mean 'stories'?"),
    ("evaluate score -p x -r x --metrics blue", "blue"),
    ("evaluate score -p x -r x --normalize upper", "upper"),
    ("evaluate score -p x -r x --smooth-method sum", "--smooth-method: 'sum'"),
    ("evaluate choice -i x.jsonl --max-regression much", "--max-regression"),
    ("evaluate code -i x.jsonl -k none --run-code", "-k none"),
    ("finetune x.jsonl -o y --lr-scheduler steep", "--lr-scheduler: 'steep'"),
    ("finetune x.jsonl -o y --packing on", "--packing: 'on'"),
    ("finetune there.txt -o y --extend", "no finished run to extend"),
    ("finetune there.txt -o y --dpo-beta 0.1", "--dpo-beta applies to rows with 'chosen' and 'rejected'"),
    ("finetune there.txt -o y --from en --to fr", "--from and --to apply to rows with a source and a target; these rows are text"),
    ("finetune there.txt -o y -m builtin:en-fr --to fr", "--from and --to apply to rows with a source and a target"),
    ("finetune there.txt -o y --max-length 100000", "--max-length 100000: the model reads at most 512 tokens at once"),
    ("finetune there.txt -o y --full --quantize int8", "quantized weights can't be trained"),
    ("finetune there.txt -o y --target-parameters all --quantize int8", "quantized experts cannot have an adapter"),
    ("finetune there.txt -o y --fsdp", "--fsdp needs several processes"),
    ("finetune there.txt -o y --eval-prompts none.jsonl", "none.jsonl: cannot be read"),
    ("finetune --train there.txt:1e9 -o y", "the weights of the training files make an epoch of 1,000,000,000 rows"),
    ("finetune --train there.txt:-1 -o y", "the weight -1 of a training file: it must be above 0"),
    ("finetune --train there.txt:nan -o y", "the weight nan of a training file: it must be above 0"),
    ("finetune x.jsonl -o y --valid-split 5", "--valid-split: '5'"),
    ("finetune x.jsonl -o y --dtype fp8", "--dtype: 'fp8'"),
    ("merge a -o b --dtype auto", "--dtype: 'auto'"),
    ("models show builtin:stories --dtype fp8", "--dtype: 'fp8'"),
]


def test_every_value_that_is_wrong_is_refused_before_a_heavy_library_is_imported(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("Once upon a time.\n")
    code = """
import contextlib, io, json, sys
from llmkit.cli.app import run
out = []
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = run(arguments.split())
    out.append([code, said.getvalue(), [m for m in ("torch", "transformers", "datasets", "peft") if m in sys.modules]])
print(json.dumps(out))
"""
    command = [sys.executable, "-c", code, json.dumps([a for a, _ in EARLY])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE)
    for (arguments, named), (exit_code, said, heavy) in zip(EARLY, json.loads(done.stdout), strict=True):
        assert (exit_code, heavy) == (2, []), (arguments, said)
        assert named in said, (arguments, said)


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", "fp16", "fp32"])
def test_short_names_of_precisions_are_accepted(run: Run, dtype: str) -> None:
    assert run("models", "show", "builtin:stories", "--dtype", dtype).code == 0


def test_an_answer_in_a_precision_of_short_name_is_the_answer_in_that_precision(run: Run) -> None:
    arguments = ["generate", "Once upon a", "--max-new-tokens", "3", "--json", "--dtype"]
    short, full = run(*arguments, "fp32"), run(*arguments, "float32")
    assert (short.code, short.out) == (0, full.out)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("generate x --batch-size 4", "--batch-size needs --input"),
        ("generate x --output-field y", "--output-field needs --input"),
        ("generate x --encoding utf-8", "--encoding needs --input"),
        ("generate x --limit 0", "--limit needs --input"),
        ("generate x --force", "--force needs --input"),
        ("generate x --verify-batching 2", "--verify-batching needs --input"),
        ("translate x --to fr --batch-tokens 100", "--batch-tokens needs --input"),
        ("translate x --to fr --text-field y", "--text-field needs --input"),
        ("generate -i x.jsonl --echo", "--echo cannot be combined with -i"),
        ("translate -i x.txt --to fr --json", "--json cannot be combined with -i"),
        ("translate x --languages", "text cannot be combined with --languages"),
        ("translate --languages --chat-template none", "--chat-template cannot be combined with --languages"),
        ("translate x --to fr --mark-fuzzy", "--mark-fuzzy applies to .po files"),
        ("translate -i x.jsonl --to fr --restart", "--restart needs --output"),
        ("generate -i x.jsonl -o - --force", "--force needs -o"),
        ("generate x --logprobs", "--logprobs needs --json or --input"),
        ("generate x --concurrency 2", "--concurrency applies to models on servers (openai:NAME); builtin:stories runs on this machine"),
        ("translate x --to fr --max-retries 2", "--max-retries applies to models on servers"),
        ("evaluate score -p x -r x -o z.jsonl", "-o needs --model"),
        ("evaluate score -p x -r x --device cpu", "--device needs --model"),
        ("evaluate score -p x -r x --max-new-tokens 3", "--max-new-tokens needs --model"),
        ("evaluate score -p x -r x --engine torch", "--engine needs --model"),
        ("evaluate bleu -p x -r x --threads 2", "--threads needs --model"),
        ("evaluate perplexity -i x.jsonl --completion-only --text-field y", "--text-field cannot be combined with --completion-only"),
        ("evaluate perplexity -i x.txt --chat-template none", "--chat-template needs --completion-only"),
        ("evaluate choice -i x.jsonl --request-timeout 9s", "--request-timeout applies to models on servers"),
        ("evaluate score -p x -r x -i y.jsonl", "-i cannot be combined with -p"),
        ("evaluate score -p x -r x -m gpt2", "-m cannot be combined with -p"),
        ("evaluate score -i x.jsonl --paired-bs", "--paired-bs needs --predictions"),
        ("evaluate score -p x -r x --confidence-n 9", "--confidence-n needs --confidence"),
        ("evaluate perplexity -i x.txt --restart", "--restart needs --output"),
        ("evaluate perplexity -i x.txt --concatenate -o y.jsonl", "-o cannot be combined with --concatenate"),
        ("evaluate choice -i x.jsonl --max-time 5m", "--max-time needs --output"),
        ("finetune x.jsonl -o y --full --lora-rank 16", "--lora-rank cannot be combined with --full"),
        ("finetune x.jsonl -o y --json", "--json needs --dry-run"),
        ("finetune x.jsonl -o y --dry-run", "-o cannot be combined with --dry-run"),
    ],
)
def test_an_option_that_this_form_would_ignore_is_refused(run: Run, arguments: str, named: str) -> None:
    ran = run(*arguments.split())
    assert ran.code == 2
    assert named in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--logprobs"], ["generate", "--logprobs", "--output-format", "text"],
        ["translate", "--to", "fr", "--text-field", "prompt", "--scores"],
    ],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_what_a_line_of_text_can_not_hold_is_refused(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}])
    output = [] if "--output-format" in arguments else ["-o", tmp_path / "out.txt"]
    ran = run(*arguments, "-i", rows, *output)
    assert ran.code == 2
    assert "text holds the answers alone" in ran.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("translate -i x.srt -o y.srt --to fr --scores", "--scores applies to rows, not to documents"),
        ("translate -i x.srt --to fr --output-field fr", "--output-field applies to rows, not to documents"),
        ("translate -i x.po -o y.jsonl --to fr --mark-fuzzy", "--mark-fuzzy applies to .po files, not to rows"),
        ("evaluate perplexity -i x.jsonl --by-line", "--by-line applies to plain text, and the input has rows"),
    ],
)
def test_an_option_that_this_kind_of_file_would_ignore_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "x.jsonl", [{"text": "Once"}])
    for name in ("x.srt", "x.po"):
        (tmp_path / name).write_text("")
    ran = run(*arguments.split())
    assert ran.code == 2
    assert named in ran.err


@pytest.mark.parametrize("output", ["o.csv", "o.tsv", "o.txt", "-"])
def test_scored_rows_are_written_as_jsonl_and_nothing_else(run: Run, tmp_path: Path, output: str) -> None:
    rows = tmp_path / "r.jsonl"
    rows.write_text('{"text": "Once upon a time."}\n')
    ran = run("evaluate", "perplexity", "-i", rows, "-o", output)
    assert ran.code == 2
    assert ".jsonl" in ran.err


@pytest.mark.parametrize(("typed", "value"), [("--data", "x"), ("--do_sample", None)])
def test_an_unknown_option_is_named_as_it_was_typed(run: Run, typed: str, value: str | None) -> None:
    ran = run("generate", "hello", typed, *([value] if value else []))
    assert ran.code == 2
    assert f"no such option {typed}" in ran.err


def test_a_value_from_the_environment_is_named_by_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMKIT_TOP_P", "2")
    assert "LLMKIT_TOP_P 2.0: it must be" in run("generate", "x", "--temperature", "1").err
    monkeypatch.setenv("LLMKIT_TOP_P", "much")
    assert "LLMKIT_TOP_P: 'much' is not a number" in run("generate", "x").err


def test_variables_that_do_not_apply_to_a_form_are_passed_over(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "t.txt"
    text.write_text("the king lived in a house by the sea\n")
    monkeypatch.setenv("LLMKIT_MODEL", "builtin:stories")
    monkeypatch.setenv("LLMKIT_TOP_P", "0.9")
    monkeypatch.setenv("LLMKIT_BATCH_SIZE", "4")
    monkeypatch.setenv("LLMKIT_NUM_SAMPLES", "3")
    assert run("evaluate", "bleu", "-p", text, "-r", text).code == 0
    assert run("generate", "Once", "--max-new-tokens", "2").code == 0


def test_a_variable_of_an_option_that_repeats_is_one_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = json.loads(run("generate", "Once", "--json", "--max-new-tokens", "12").out)["text"]
    monkeypatch.setenv("LLMKIT_STOP", "there was")
    stopped = json.loads(run("generate", "Once", "--json", "--max-new-tokens", "12").out)["text"]
    assert "there was" in plain
    assert stopped == plain[: plain.index("there was")]


def test_a_loop_over_lines_keeps_its_lines() -> None:
    loop = f'while read -r w; do {sys.executable} -m llmkit generate "Once $w" --max-new-tokens 1 --json -q; done'
    done = subprocess.run(["bash", "-c", loop], input="one\ntwo\n", capture_output=True, text=True, check=True)
    assert [json.loads(line)["prompt"] for line in done.stdout.splitlines()] == ["Once one", "Once two"]


@pytest.mark.parametrize("order", [("-", "Once upon a"), ("Once upon a", "-")])
def test_a_dash_beside_the_text_puts_standard_input_before_it(process: Process, order: tuple[str, str]) -> None:
    ran = process("generate", *order, "--max-new-tokens", "1", "--json", stdin=b"A tale.\n")
    assert json.loads(ran.out)["prompt"] == "A tale.\nOnce upon a"


@pytest.mark.parametrize("words", [("generate",), ("generate", "-"), ("generate", "Summarize:", "-"), ("translate", "--to", "fr")])
def test_a_pipe_that_brought_nothing_is_refused(process: Process, words: tuple[str, ...]) -> None:
    ran = process(*words, stdin=b"")
    assert (ran.code, ran.out) == (2, "")
    assert "standard input is empty" in ran.err


@pytest.mark.parametrize(("piped", "arguments", "told"), [(b"text\n", (), True), (b"", (), False), (b"text\n", ("-q",), False)])
def test_a_terminal_user_is_told_that_piped_text_is_not_read(piped: bytes, arguments: tuple[str, ...], told: bool) -> None:
    source, sink = os.pipe()
    os.write(sink, piped)
    code, shown = on_a_terminal("generate", "Once", "--max-new-tokens", "1", *arguments, stdin=source)
    assert code == 0
    assert ("add - to put it before the text" in shown) == told


def test_two_texts_are_refused(run: Run) -> None:
    ran = run("generate", "Once", "upon")
    assert ran.code == 2
    assert "quotes" in ran.err


@pytest.mark.parametrize("words", [("-",), ("-i", "-")], ids=["prompt", "rows"])
def test_waiting_for_standard_input_is_said_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "llmkit", "generate", *words, "--max-new-tokens", "1", *(["--json"] if words == ("-",) else []), "-q"]
    said = tmp_path / "stderr"
    with said.open("wb") as stderr, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as running:
        assert until(lambda: said.read_bytes() != b"", running)
        assert running.stdin is not None
        running.stdin.write(b"Once")
        running.stdin.close()
        running.stdin = None
        answer = running.communicate(timeout=PATIENCE)[0]
    assert answer.strip() if words == ("-i", "-") else json.loads(answer)["prompt"] == "Once"
    assert said.read_bytes() == b"reading standard input\n"


def test_help_on_a_terminal_loses_no_brackets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    page = run("generate", "--help").out
    assert "org/name[@revision]" in page
    assert "[default: 128]" in page


def test_a_document_is_read_in_the_encoding_that_was_named(run: Run, tmp_path: Path) -> None:
    document, out = tmp_path / "x.srt", tmp_path / "x.fr.srt"
    document.write_bytes("1\n00:00:01,000 --> 00:00:02,000\nThe café is small.\n".encode("cp1252"))
    ran = run("translate", "-i", document, "-o", out, "--to", "fr", "--encoding", "cp1252")
    assert "UTF-8" not in ran.err
    assert "café" in out.read_text(encoding="utf-8")
