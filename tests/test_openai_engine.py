"""A model behind an OpenAI-compatible server is asked like any other: prompts, files, translations, scores."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import PATIENCE, Run, read_rows, write_rows
from servers import FakeServer, logprob, said, serving, words

from llmkit.engines.decoding import Decoding
from llmkit.engines.openai.protocol import OPTIONAL, seed_of
from llmkit.engines.registry import open_engine
from llmkit.models.settings import ModelSettings, ServerSettings
from llmkit.rows.fields import Prompt


def asked(text: str) -> str:
    """The conversation that a prompt is, as the server's model reads it."""
    return f"user: {text}"


def seed(number: int = 0, sample: int = 0, run_seed: int = 0) -> int:
    return seed_of(Decoding(seed=run_seed), number, sample)


def test_one_prompt_is_streamed_from_the_chat_endpoint(run: Run, server: FakeServer, at: list[object]) -> None:
    ran = run("generate", "Hello there", *at)
    assert (ran.code, ran.out) == (0, said(asked("Hello there"), seed()) + "\n")
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies[0]["stream"] is True


def test_a_stream_that_ends_with_its_answer_is_whole(run: Run) -> None:
    with serving(done=False) as server:
        ran = run("generate", "Hello there", "-m", "openai:tiny", "--api-base", server.base)
    assert (ran.code, ran.out) == (0, said(asked("Hello there"), seed()) + "\n")


def test_without_a_chat_template_the_text_goes_to_plain_completions(run: Run, server: FakeServer, at: list[object]) -> None:
    for more in ([], ["--json"]):
        ran = run("generate", "Hello there", *at, "--chat-template", "none", *more)
        assert ran.code == 0, ran.err
        assert said("Hello there", seed()) in ran.out
    assert server.paths == ["/v1/completions"] * 2
    assert server.bodies[0]["prompt"] == "Hello there"


def test_every_field_that_decides_an_answer_is_sent(run: Run, server: FakeServer, at: list[object]) -> None:
    neutral = {"max_tokens": 128, "temperature": 0.0, "top_p": 1.0, "n": 1, "seed": seed(), **OPTIONAL}
    assert run("generate", "x", *at, "--json").code == 0
    assert neutral.items() <= server.bodies[0].items()
    options = ["--temperature", "0.7", "--top-p", "0.9", "--top-k", "5", "--min-p", "0.1", "--repetition-penalty", "1.2", "--stop", "zz"]
    assert run("generate", "x", *at, "--json", *options, "--min-new-tokens", "3", "--max-tokens", "9", "--seed", "4").code == 0
    chosen = {
        "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "stop": ["zz"], "min_tokens": 3,
        "max_tokens": 9, "seed": seed(run_seed=4),
    }  # fmt: skip
    assert chosen.items() <= server.bodies[1].items()


def test_a_file_is_answered_in_order_with_the_servers_counts(run: Run, tmp_path: Path, server: FakeServer, at: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "prompt": f"row {i}"} for i in range(50)])
    ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--concurrency", "8")
    assert ran.code == 0, ran.err
    out = read_rows(tmp_path / "out.jsonl")
    assert [row["text"] for row in out] == [said(asked(f"row {i}"), seed(i)) for i in range(50)]
    assert {(row["finish_reason"], row["prompt_tokens"], row["completion_tokens"]) for row in out} == {("eos", 3, 8)}
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert (record["result"]["prompt_tokens"], record["result"]["completion_tokens"]) == (150, 400)
    assert "150 tokens in prompts" in ran.err
    assert "openai:tiny on openai" in ran.err
    assert server.most_at_once <= 8
    # how a server is asked is no part of the run
    again = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--request-timeout", "30s", "--max-retries", "3")
    assert "already complete" in again.err
    assert len(server.bodies) == 50


def test_several_servers_share_the_work(run: Run, tmp_path: Path, server: FakeServer, at: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"row {i}"} for i in range(40)])
    with serving(latency=0.01) as other:
        server.latency = 0.01
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--api-base", other.base, "--concurrency", "8")
        assert ran.code == 0, ran.err
        assert len(server.bodies) + len(other.bodies) == 40
        assert min(len(server.bodies), len(other.bodies)) > 10
        assert "already complete" in run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at).err


def test_samples_differ_by_seeds_that_do_not_depend_on_the_neighbours(run: Run, tmp_path: Path, at: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "same"}, {"prompt": "same"}])
    arguments = ["generate", "-i", rows, *at, "-n", "3", "--temperature", "1", "--seed", "7"]
    assert run(*arguments, "-o", tmp_path / "out.jsonl").code == 0
    expected = [[said(asked("same"), seed(i, k, 7)) for k in range(3)] for i in range(2)]
    out = read_rows(tmp_path / "out.jsonl")
    assert [row["texts"] for row in out] == expected
    assert out[0]["completion_tokens"] == [8, 8, 8]
    assert len({text for row in expected for text in row}) == 6


def test_an_answer_ends_before_a_stop_string(run: Run, server: FakeServer, at: list[object]) -> None:
    whole = said(asked("Hello"), seed())
    stop = f" {whole.split()[2]}"
    for more in ([], ["--json"]):
        ran = run("generate", "Hello", *at, "--stop", stop, *more)
        text = json.loads(ran.out)["text"] if more else ran.out.removesuffix("\n")
        assert text == whole[: whole.index(stop)]
    assert json.loads(ran.out)["finish_reason"] == "stop"
    assert server.bodies[0]["stop"] == [stop]


def test_log_probabilities_of_answers_are_the_servers(run: Run, tmp_path: Path, at: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "one"}])
    for template in ("auto", "none"):
        out = tmp_path / f"{template}.jsonl"
        assert run("generate", "-i", rows, "-o", out, *at, "--logprobs", "--chat-template", template).code == 0
        (row,) = read_rows(out)
        assert [t["token"] for t in row["logprobs"]] == words(row["text"])
        assert row["logprobs"][0]["logprob"] == logprob(words(row["text"])[0])


def test_a_system_message_and_conversations_reach_the_server(run: Run, tmp_path: Path, server: FakeServer, at: list[object]) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    assert run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--system", "Be kind.").code == 0
    assert server.bodies[0]["messages"] == [{"role": "system", "content": "Be kind."}, *turns]
    ran = run("generate", "-i", rows, "-o", tmp_path / "other.jsonl", *at, "--chat-template", "none")
    assert ran.code == 2
    assert "chat template" in ran.err


def test_a_text_is_translated_by_prompt(run: Run, server: FakeServer, at: list[object]) -> None:
    ran = run("translate", "Good morning.", "--from", "en", "--to", "fr", *at)
    assert ran.code == 0, ran.err
    (body,) = server.bodies
    assert "from English to French" in body["messages"][0]["content"]
    assert body["messages"][0]["content"].endswith("Good morning.")
    assert ran.out.strip() == said(f"user: {body['messages'][0]['content']}", body["seed"])


def test_answers_are_scored_against_references(run: Run, tmp_path: Path, at: list[object]) -> None:
    right = said(asked("a"), seed(0))
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a", "reference": right}, {"prompt": "b", "reference": "no"}])
    ran = run("evaluate", "score", "--metrics", "exact_match", "-i", rows, *at, "--json")
    assert json.loads(ran.out)["scores"]["exact_match"] == 50.0


def test_perplexity_is_that_of_the_echoed_log_probabilities(run: Run, tmp_path: Path, at: list[object]) -> None:
    texts = ["the king lived", "a house by the sea"]
    rows = write_rows(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    ran = run("evaluate", "perplexity", "-i", rows, *at, "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    values = [logprob(token) for text in texts for token in words(text)[1:]]
    assert result["scores"]["token_perplexity"] == pytest.approx(math.exp(-sum(values) / len(values)))
    assert "bos:server" in result["signatures"]["token_perplexity"]


def test_completions_are_scored_after_their_prompts(run: Run, tmp_path: Path, at: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "the king", "completion": " lived well"}])
    arguments = ["evaluate", "perplexity", "-i", rows, *at, "--completion-only", "--json"]
    ran = run(*arguments, "--chat-template", "none")
    assert json.loads(ran.out)["scores"]["mean_log_likelihood"] == pytest.approx((logprob(" lived") + logprob(" well")) / 2)
    refused = run(*arguments)
    assert refused.code == 2
    assert "--chat-template none" in refused.err


def test_the_likeliest_choice_is_chosen(run: Run, tmp_path: Path, at: list[object]) -> None:
    rows = write_rows(
        tmp_path / "in.jsonl",
        [
            {"question": "Who?", "choices": ["king", "grandmother"], "answer": 0},
            {"question": "Who?", "choices": ["grandmother", "I"], "answer": 0},
        ],
    )
    ran = run("evaluate", "choice", "-i", rows, *at, "-o", tmp_path / "out.jsonl", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scores"]["accuracy"] == 50.0
    assert read_rows(tmp_path / "out.jsonl")[0]["log_likelihoods"] == [logprob(" king"), logprob(" grandmother")]


def test_a_server_that_echoes_nothing_is_an_error_that_says_so(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "nobody has scored this"}])
    with serving(scores=False) as server:
        ran = run("evaluate", "perplexity", "-i", rows, "-m", "openai:tiny", "--api-base", server.base)
    assert ran.code == 5
    assert "no log-probabilities of given texts" in ran.err


@pytest.mark.parametrize(
    "options",
    [
        ["--num-beams", "2"], ["--no-repeat-ngram-size", "2"], ["--max-length", "20"], ["--truncate", "left"], ["--regex", "a"],
        ["--prompt-lookup", "3"], ["--adapter", "x"], ["--device", "cpu"], ["--quantize", "int8"], ["--dtype", "float32"], ["--offline"],
        ["--trust-remote-code"], ["--chat-template", "file.jinja"], ["--generation-config", "model"],
    ],
    ids=lambda options: str(options[0]),
)  # fmt: skip
def test_what_a_server_can_not_do_is_refused_before_it_is_asked(run: Run, server: FakeServer, at: list[object], options: list[str]) -> None:
    ran = run("generate", "x", *at, *options)
    assert ran.code == 2, ran.err
    assert server.bodies == []


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://host/v1", "http://", "http://host:abc/v1", "http://ho st/v1"])
def test_an_address_that_can_not_be_one_is_refused(run: Run, address: str) -> None:
    ran = run("generate", "x", "-m", "openai:tiny", "--api-base", address)
    assert ran.code == 2
    assert "http://localhost:8000/v1" in ran.err


def test_a_server_that_is_named_twice_is_asked_as_one(run: Run, server: FakeServer, at: list[object]) -> None:
    ran = run("generate", "x", *at, "--api-base", f"{server.base}/", "--verbose")
    assert (ran.code, ran.err.count(server.base)) == (0, 1), ran.err


def test_an_address_for_a_model_that_runs_here_is_refused(run: Run) -> None:
    ran = run("generate", "x", "--api-base", "http://localhost:1/v1")
    assert ran.code == 2
    assert "--model openai:builtin:stories" in ran.err


def test_without_an_address_or_a_key_the_message_says_what_to_give(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    ran = run("generate", "x", "-m", "openai:tiny")
    assert ran.code == 2
    assert "--api-base" in ran.err
    assert "OPENAI_API_KEY" in ran.err


def test_the_environment_names_the_server(run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base)
    assert run("generate", "x", "-m", "openai:tiny").code == 0
    assert len(server.bodies) == 1


def test_fields_that_a_server_does_not_know_are_left_out_when_they_are_neutral(run: Run, tmp_path: Path) -> None:
    def refuse(body: object) -> object:
        unknown = sorted({"top_k", "min_p", "min_tokens", "repetition_penalty", "seed"} & set(body))  # type: ignore[call-overload]
        return (422, {"message": f"Unexpected fields in the request: {unknown}"}) if unknown else None

    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"row {i}"} for i in range(6)])
    with serving(refuse=refuse) as server:
        at = ["-m", "openai:tiny", "--api-base", server.base]
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--concurrency", "2")
        assert ran.code == 0, ran.err
        assert "does not know top_k" in ran.err
        assert server.answered == 6
        refused = run("generate", "x", *at, "--temperature", "1", "--top-k", "5", "--json")
        assert refused.code == 2
        assert "--top-k" in refused.err
        drawn = run("generate", "x", *at, "--temperature", "1", "--json")  # whose answers would be others each time
        assert drawn.code == 5
        assert "['seed']" in drawn.err


def test_a_limit_goes_by_the_name_that_the_server_takes(run: Run) -> None:
    def refuse(body: object) -> object:
        message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return (400, {"message": message}) if "max_tokens" in body else None  # type: ignore[operator]

    with serving(refuse=refuse) as server:
        ran = run("generate", "x", "-m", "openai:tiny", "--api-base", server.base, "--max-new-tokens", "3", "--json")
    assert json.loads(ran.out)["completion_tokens"] == 3


def test_a_model_without_a_chat_template_gets_a_hint(run: Run) -> None:
    message = "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template"
    with serving(refuse=lambda body: (400, {"message": message}) if "messages" in body else None) as server:
        ran = run("generate", "x", "-m", "openai:tiny", "--api-base", server.base, "--json")
    assert ran.code == 2
    assert "--chat-template none" in ran.err


def test_a_run_against_a_server_imports_no_heavy_library(server: FakeServer) -> None:
    code = f"""
import sys
from llmkit.cli.app import run
assert run(["generate", "x", "-m", "openai:tiny", "--api-base", {server.base!r}]) == 0
print([m for m in ("torch", "transformers", "ctranslate2", "datasets", "peft") if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr.splitlines()[-1] == "[]"


def test_without_the_client_library_the_message_says_what_to_install(server: FakeServer) -> None:
    code = f"""
import sys
sys.modules["openai"] = None
from llmkit.cli.app import run
sys.exit(run(["generate", "x", "-m", "openai:tiny", "--api-base", {server.base!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 5
    assert "llmkit[openai]" in done.stderr


def test_what_another_server_or_endpoint_answered_is_not_taken_from_the_cache(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "the king", "reference": "the king"}])
    for template in ("auto", "none"):
        for _ in range(2):
            with serving() as server:
                at = ("-m", "openai:tiny", "--api-base", server.base, "--chat-template", template, "--cache", tmp_path / "cache")
                assert run("evaluate", "score", "-i", rows, *at).code == 0
                assert run("evaluate", "score", "-i", rows, *at).code == 0
                assert len(server.bodies) == 1


def test_a_run_through_the_other_endpoint_does_not_continue_an_output(run: Run, tmp_path: Path, at: list[object]) -> None:
    rows, out = write_rows(tmp_path / "in.jsonl", [{"prompt": "the king"}]), tmp_path / "out.jsonl"
    assert run("generate", "-i", rows, "-o", out, *at).code == 0
    refused = run("generate", "-i", rows, "-o", out, *at, "--chat-template", "none")
    assert refused.code == 2
    assert "endpoint" in refused.err


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_budget_of_tokens_pauses_the_run(run: Run, tmp_path: Path, server: FakeServer, at: list[object], in_flight: int) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"row {i}"} for i in range(30)])
    arguments = ["generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--concurrency", str(in_flight), "--max-tokens-total"]
    paused = run(*arguments, "110")
    assert paused.code == 124
    assert "--max-tokens-total" in paused.err
    assert 10 <= len(server.bodies) <= 10 + in_flight  # 11 tokens each, and what was in flight
    before = len(server.bodies)
    assert run(*arguments, "110").code == 124
    assert len(server.bodies) == before
    assert run(*arguments, "1000").code == 0
    assert len(server.bodies) == 30


def test_an_engine_that_nobody_holds_ends_its_thread_and_connections(server: FakeServer) -> None:
    before = set(threading.enumerate())
    engine = open_engine(ModelSettings("openai:tiny", server=ServerSettings((server.base,))))
    decoding = Decoding(max_new_tokens=2)
    assert engine.generate([engine.make_request(Prompt(text="Hello"), decoding)], decoding)
    (thread,) = (each for each in set(threading.enumerate()) - before if each.name.startswith("llmkit") or "_run" in each.name)
    del engine
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()
