"""One prompt, many prompts, and everything about decoding that can be typed."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from random import Random

import pytest
from conftest import Copy, Process, Run, read_rows, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.engines.detokenize import Stops, TextStream, decode, find_stop

SHORT = ["--max-new-tokens", "8"]


def test_a_prompt_prints_its_continuation_and_nothing_else(run: Run) -> None:
    ran = run("generate", "Once upon a", *SHORT)
    assert ran.code == 0
    assert ran.out.startswith(" time")
    assert ran.out.endswith("\n")
    assert "small demonstration model" in ran.err


def test_echo_prints_the_prompt_first(run: Run) -> None:
    assert run("generate", "Once upon a", *SHORT, "--echo", "-q").out.startswith("Once upon a time")


def test_standard_input_is_the_prompt(process: Process) -> None:
    dash = process("generate", "-", *SHORT, "--echo", stdin=b"Once upon a\n")
    pipe = process("generate", *SHORT, "--echo", stdin=b"Once upon a\n")
    assert dash.out == pipe.out
    assert dash.out.startswith("Once upon a time")


def test_piped_text_comes_before_the_argument(process: Process) -> None:
    ran = process("generate", "Once upon a", "-", *SHORT, "--echo", stdin=b"A tale.\n")
    assert ran.out.startswith("A tale.\nOnce upon a")


def test_no_prompt_is_a_usage_error(process: Process) -> None:
    ran = process("generate")
    assert ran.code == 2
    assert "no prompt given" in ran.err


def test_standard_input_that_is_not_utf8_is_refused(process: Process) -> None:
    ran = process("generate", "-", stdin=b"caf\xe9")
    assert ran.code == 2
    assert "byte 4 (0xe9) is not utf-8" in ran.err


def test_a_closed_standard_input_is_no_prompt(process: Process) -> None:
    import os

    ran = process("generate", preexec_fn=lambda: os.close(0))
    assert ran.code == 2
    assert "Traceback" not in ran.err


def test_json_tells_text_reason_and_tokens(run: Run) -> None:
    found = json.loads(run("generate", "Once upon a", *SHORT, "--json", "-q").out)
    assert found["prompt"] == "Once upon a"
    assert found["text"].startswith(" time")
    assert (found["finish_reason"], found["completion_tokens"]) == ("length", 8)
    assert found["prompt_tokens"] > 3


def test_log_probabilities_are_those_of_the_model(run: Run) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmkit.models.builtin import folder

    found = json.loads(run("generate", "Once upon a", *SHORT, "--json", "-q", "--logprobs").out)
    tokenizer, model = AutoTokenizer.from_pretrained(folder("stories")), AutoModelForCausalLM.from_pretrained(folder("stories")).float()
    ids = tokenizer("Once upon a" + found["text"], return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model(ids).logits[0, -9:-1].log_softmax(-1).gather(1, ids[0, -8:, None])[:, 0]
    assert "".join(t["token"] for t in found["logprobs"]) == found["text"]
    assert [t["logprob"] for t in found["logprobs"]] == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_stop_string_ends_the_answer_before_it(run: Run) -> None:
    whole = json.loads(run("generate", "Once upon a time", "--max-new-tokens", 40, "--json", "-q").out)["text"]
    word = whole.split()[5]
    found = json.loads(run("generate", "Once upon a time", "--max-new-tokens", 40, "--json", "-q", "--stop", word).out)
    assert found["finish_reason"] == "stop"
    assert found["text"] == whole[: whole.index(word)]
    assert found["completion_tokens"] < 40


def test_several_samples_differ_and_a_seed_repeats_them(run: Run) -> None:
    arguments = ["generate", "Once upon a time", *SHORT, "--temperature", "1", "-n", "3", "--json", "-q"]
    first, again = (json.loads(run(*arguments, "--seed", "7").out)["texts"] for _ in range(2))
    other = json.loads(run(*arguments, "--seed", "8").out)["texts"]
    assert first == again != other
    assert len(set(first)) == 3


def test_the_largest_seed_works_and_a_larger_one_is_refused(run: Run) -> None:
    assert run("generate", "a", *SHORT, "--temperature", "1", "--seed", 2**64 - 1, "-q").code == 0
    assert run("generate", "a", "--seed", 2**64).code == 2
    assert run("generate", "a", "--seed", -1).code == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--temperature -1", "--temperature"),
        ("--temperature nan", "--temperature"),
        ("--top-p 0 --temperature 1", "--top-p"),
        ("--top-p 1.5 --temperature 1", "--top-p"),
        ("--top-p 0.9", "no effect at temperature 0"),
        ("--num-beams 4 --temperature 1", "beam search does not sample"),
        ("-n 5", "greedy answers would all be the same"),
        ("--num-beams 2 -n 3", "at most 2 answers"),
        ("--min-new-tokens 9 --max-new-tokens 8", "--min-new-tokens"),
        ("--max-new-tokens 8 --max-length 20", "cannot be combined"),
        ("--max-new-tokens 0", "1 or more"),
        ("--length-penalty 2", "beam search"),
        ("--prompt-lookup 3 --num-beams 2", "speculation"),
        ("--prompt-lookup 3 --draft-model x", "cannot be combined"),
        ("--regex a --json-schema {}", "cannot be combined"),
        ("--max-new-tokens 1.5", "not a whole number"),
        ("--max-new-tokens=-3", "not a whole number"),
        ("--truncate middle", "is not one of none, left, right"),
        ("--dtype float8", "is not one of auto, float32"),
        ("--device gpu", "is not one of auto, cpu"),
        ("-o out.jsonl", "needs --input"),
        ("--regex [", "can't be used"),
        ("--json-schema {", "not JSON"),
        ("--json-schema no-such-file.json", "can't be read"),
    ],
)
def test_options_that_mean_nothing_are_errors_that_say_why(run: Run, options: str, reason: str) -> None:
    ran = run("generate", "x", *options.split())
    assert ran.code == 2
    assert reason in ran.err
    assert len(ran.err.splitlines()) <= 4
    assert ran.out == ""


def test_an_empty_stop_string_is_refused(run: Run) -> None:
    assert run("generate", "x", "--stop", "").code == 2


def test_counts_may_be_written_as_people_write_them(run: Run, prompts: Path) -> None:
    ran = run("generate", "-i", prompts, "--max-new-tokens", "2e0", "--batch-tokens", "1k", "--limit", "3", "-q")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 3


def test_a_prompt_longer_than_the_context_says_by_how_much(run: Run, gpt2: Path) -> None:
    ran = run("generate", "-m", gpt2, "x" * 140)
    assert ran.code == 2
    assert "13 tokens too long" in ran.err
    assert "--truncate" in ran.err


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncate_keeps_the_end_or_the_beginning(run: Run, gpt2: Path, side: str) -> None:
    ran = run("generate", "-m", gpt2, "a" * 200, "--truncate", side, "--json", "--max-new-tokens", 28)
    assert ran.code == 0
    assert json.loads(ran.out)["prompt_tokens"] == 100
    assert "100 tokens of the prompt were cut" in ran.err


def test_an_empty_prompt_is_bos_alone_where_the_model_has_one(run: Run, t5: Path) -> None:
    assert json.loads(run("generate", "", *SHORT, "--json", "-q").out)["prompt_tokens"] == 1
    ran = run("generate", "-m", t5, "")
    assert ran.code == 2
    assert "empty" in ran.err


@pytest.mark.parametrize("prompt", ["😀 👩‍👩‍👧 naïve", "שלום עולם", "a\x00b", "\ud800 half", "\n\t  ", "word " * 400], ids=range(6))
def test_unusual_texts_work(run: Run, prompt: str, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": prompt}])
    ran = run("generate", "-i", rows, "--max-new-tokens", "3", "-q", "--truncate", "left")
    assert ran.code == 0
    assert json.loads(ran.out)["prompt"] == prompt


def test_a_regular_expression_constrains_the_answer(run: Run) -> None:
    assert re.fullmatch(r"19[0-9]{2}\n", run("generate", "The year", "--regex", "19[0-9]{2}", "-q").out)


def test_a_json_schema_constrains_the_answer(run: Run, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False})
    )
    assert json.loads(run("generate", "Give", "--json-schema", schema, "-q").out)["n"] in (1, 2)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--regex", "((a{1,900}){1,900}){1,900}"], 0),
        (["--regex", "(a|b)*a(a|b){4000}"], 0),
        (["--regex", "(?=a)b"], 2),
        (["--json-schema", '{"type":"array","minItems":1000000000,"items":{"type":"integer"}}'], 0),
        (["--json-schema", '{"$ref":"#/nowhere"}'], 2),
        (["--json-schema", '{"type":"nope"}'], 2),
    ],
    ids=range(6),
)
def test_constraints_that_would_explode_are_bounded_or_refused(run: Run, options: list[str], code: int) -> None:
    ran = run("generate", "x", *options, "--max-new-tokens", 2, "-q")
    assert ran.code == code
    assert len(ran.err.splitlines()) <= 3


def test_rows_keep_their_fields_and_receive_the_answer(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": 7, "prompt": "Once upon a", "kept": [1, {"a": None}]}])
    out = tmp_path / "out.jsonl"
    assert run("generate", "-i", rows, "-o", out, *SHORT).code == 0
    (row,) = read_rows(out)
    assert (row["id"], row["kept"]) == (7, [1, {"a": None}])
    assert row["text"].startswith(" time")
    assert (row["finish_reason"], row["completion_tokens"]) == ("length", 8)


def test_a_template_is_filled_from_fields(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"who": "{king}", "n": "x"}])
    direct = json.loads(run("generate", "Say: {king}!", *SHORT, "--json", "-q").out)["text"]
    ran = run("generate", "-i", rows, "--template", "Say: {who}!", *SHORT, "-q")
    assert json.loads(ran.out)["text"] == direct


@pytest.mark.parametrize("template", ["no field", "{who!r}", "{who", "{}"])
def test_templates_name_plain_fields_only(run: Run, prompts: Path, template: str) -> None:
    ran = run("generate", "-i", prompts, "--template", template)
    assert ran.code == 2
    assert "--template" in ran.err


def test_messages_go_through_the_chat_template_with_one_bos(run: Run, llama: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "hi"}]}])
    found = json.loads(run("generate", "-m", llama, "-i", rows, *SHORT, "-q").out)
    text = "[user] hi\n[assistant]"
    assert found["prompt_tokens"] == 1 + len(text)
    system = json.loads(run("generate", "-m", llama, "hi", "-s", "Be kind", *SHORT, "--json", "-q").out)
    assert system["prompt_tokens"] == 1 + len("[system] Be kind\n" + text)
    plain = json.loads(run("generate", "-m", llama, "hi", "--chat-template", "none", *SHORT, "--json", "-q").out)
    assert plain["prompt_tokens"] == 1 + len("hi")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for i in range(10**9) %}{% for j in range(10**9) %}{% endfor %}{% endfor %}", "chat template"),
        ("{{ ''.__class__.__mro__ }}", "chat template"),
    ],
)
def test_a_chat_template_that_fails_is_an_error_not_a_crash(run: Run, llama: Path, tmp_path: Path, template: str, reason: str) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(template)
    ran = run("generate", "-m", llama, "hi", "--chat-template", path)
    assert ran.code == 2
    assert reason in ran.err


def test_messages_for_a_model_without_template_are_an_error(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "hi"}]}])
    ran = run("generate", "-i", rows)
    assert ran.code == 2
    assert "needs a chat template" in ran.err


def test_bad_rows_become_rows_with_an_error_and_the_run_goes_on(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    bad = [
        "{broken",
        '{"other": 1}',
        '{"prompt": null}',
        '{"prompt": ["a"]}',
        "[1]",
        "3",
        '{"prompt": "a", "prompt": "b"}',
    ]
    path.write_text('{"prompt": "Once"}\n' + "\n".join(bad) + '\n{"prompt": "upon"}\n')
    out = tmp_path / "out.jsonl"
    ran = run("generate", "-i", path, "-o", out, *SHORT)
    assert ran.code == 3
    rows = read_rows(out)
    assert ["error" in row for row in rows] == [False, *[True] * len(bad), False]
    assert all(f"line {n}" in row["error"] for n, row in enumerate(rows, 1) if "error" in row)
    assert "fields: other" in rows[2]["error"]
    assert "7 of 9 rows failed" in ran.err


def test_text_output_is_a_line_an_answer(run: Run, tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "out.txt"
    assert run("generate", "-i", prompts, "-o", out, *SHORT).code == 0
    rows = [json.loads(line) for line in run("generate", "-i", prompts, *SHORT, "-q").out.splitlines()]
    assert out.read_text().splitlines() == [r["text"].replace("\n", "\\n") for r in rows]


def test_compressed_input_and_plain_lines_give_the_same_answers(run: Run, tmp_path: Path, ragged: list[str]) -> None:
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress("\n".join(ragged).encode(), mtime=0))
    rows = write_rows(tmp_path / "p.jsonl", [{"prompt": t} for t in ragged])
    answers = [run("generate", "-i", path, *SHORT, "--output-format", "text", "-q").out for path in (tmp_path / "p.txt.gz", rows)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_gives_an_empty_output_and_a_notice(run: Run, tmp_path: Path, content: str) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(content)
    ran = run("generate", "-i", path, "-o", out)
    assert ran.code == 0
    assert "no rows in" in ran.err
    assert out.read_text() == ""


def test_limit_zero_does_nothing_successfully(run: Run, prompts: Path) -> None:
    assert run("generate", "-i", prompts, "--limit", "0").code == 0


def test_verify_batching_reports(run: Run, prompts: Path) -> None:
    ran = run("generate", "-i", prompts, *SHORT, "--verify-batching", "5")
    assert "5 rows gave the same answer when run alone" in ran.err


def test_prompt_lookup_and_a_draft_model_do_not_change_a_greedy_answer(run: Run) -> None:
    arguments = ["generate", "Once upon a time there was a king and the king", "--max-new-tokens", "24", "-q"]
    plain = run(*arguments).out
    assert run(*arguments, "--prompt-lookup", "4").out == plain
    assert run(*arguments, "--draft-model", "builtin:stories").out == plain


def test_scores_that_are_not_numbers_are_an_error_in_the_row(run: Run, llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(llama)
    config = json.loads((folder / "config.json").read_text())
    # finite weights whose products are not
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": float("nan")}))
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a"}])
    ran = run("generate", "-m", folder, "-i", rows, "--chat-template", "none", *SHORT)
    assert ran.code == 3
    assert "NaN" in json.loads(ran.out)["error"]


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.randoms())
def test_streamed_pieces_are_whole_characters_and_never_part_of_a_stop_string(text: str, stops: list[str], random: Random) -> None:
    tokenizer = _bytes_tokenizer()
    ids = list(text.encode())
    stream = TextStream(tokenizer, (), Stops(tuple(stops)))
    pieces, at = [], 0
    while at < len(ids):
        size = random.randint(1, 5)
        pieces.append(stream.push(ids[at : at + size]))
        at += size
    pieces.append(stream.finish())
    whole = decode(tokenizer, ids)
    stop = find_stop(whole, stops)
    assert "".join(pieces) == (whole if stop is None else whole[:stop])
    assert all("\ufffd" not in piece for piece in pieces if "\ufffd" not in text)


def _bytes_tokenizer() -> object:
    class Bytes:
        """A tokenizer whose tokens are bytes, decoded as byte-level tokenizers do."""

        def decode(self, ids: list[int], **_: object) -> str:
            return bytes(ids).decode("utf-8", "replace")

    return Bytes()
