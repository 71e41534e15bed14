"""Servers that speak the protocol in a way of their own: what can be understood is, the rest costs a row at most."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, serving, write_rows

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def odd(answer: Answer, models: Answer | None = None) -> Iterator[str]:
    """The address of a server that answers each request in this way."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if models is None:
                send(self, 200, {"data": []})
            else:
                models(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

    with serving(Handler) as address:
        yield f"{address}/v1"


def send(handler: BaseHTTPRequestHandler, status: int, content: object, **headers: str) -> None:
    data = json.dumps(content).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def sends(status: int, content: object, **headers: str) -> Answer:
    return lambda handler: send(handler, status, content, **headers)


def endless(status: int, begin: bytes = b"") -> Answer:
    """An answer that ends when the client has had enough of it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(b"x" * 65536)

    return answer


def reply(**changed: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}} | changed


def logprobs(*tokens: object) -> dict[str, Any]:
    choice = reply()["choices"][0]
    return reply(choices=[choice | {"logprobs": {"content": list(tokens)}}])


def asked(run: Run, folder: Path, base: str, *options: object) -> dict[str, Any]:
    """The one row of a run."""
    rows = write_rows(folder / "in.jsonl", [{"prompt": "Is it?"}])
    run("generate", "-i", rows, "-o", folder / "out.jsonl", "-m", "openai:tiny", "--api-base", base, "--max-retries", 0, *options)
    return read_rows(folder / "out.jsonl")[0]


@pytest.mark.parametrize("count", [True, 10**30, "7", 2.5, -1, None])
def test_a_count_of_tokens_that_is_none_costs_no_answer(run: Run, tmp_path: Path, count: object) -> None:
    with odd(sends(200, reply(usage={"prompt_tokens": count, "completion_tokens": count}))) as base:
        row = asked(run, tmp_path, base)
    assert (row["text"], row["prompt_tokens"], row["completion_tokens"]) == ("yes", 0, 0)


def test_of_several_choices_the_first_by_its_number_is_the_answer(run: Run, tmp_path: Path) -> None:
    choices = [{"index": 1, "message": {"content": "no"}}, {"index": 0, "finish_reason": "content_filter", "message": {"content": "yes"}}]
    with odd(sends(200, reply(choices=choices))) as base:
        row = asked(run, tmp_path, base)
    assert (row["text"], row["finish_reason"]) == ("yes", "content_filter")


def test_of_an_answer_in_parts_those_of_text_are_the_answer(run: Run, tmp_path: Path) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "text", "text": "ye"},
        {"type": "text", "text": "s"},
    ]
    with odd(sends(200, reply(choices=[{"index": 0, "finish_reason": "stop", "message": {"content": parts}}]))) as base:
        assert asked(run, tmp_path, base)["text"] == "yes"
    with odd(events(BEGIN, *({"content": [part]} for part in parts))) as base:
        assert run("generate", "Is it?", "-m", "openai:tiny", "--api-base", base).out == "yes\n"


@pytest.mark.parametrize(
    "token", [{"token": "a", "logprob": None}, {"token": "a", "logprob": "-1"}, {"token": "a", "logprob": float("nan")}, "a"]
)
def test_log_probabilities_that_are_none_are_an_error_of_the_row(run: Run, tmp_path: Path, token: object) -> None:
    with odd(sends(200, logprobs(token))) as base:
        assert "log-probabilities" in asked(run, tmp_path, base, "--logprobs")["error"]


def test_texts_are_scored_by_the_log_probabilities_of_a_prompt(run: Run, tmp_path: Path) -> None:
    def scored(*given: object) -> Answer:
        choice = {"index": 0, "finish_reason": "length", "text": "c", "prompt_logprobs": list(given)}
        return sends(200, {"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 1}})

    arguments = ["evaluate", "perplexity", "-i", write_rows(tmp_path / "in.jsonl", [{"text": "ab"}]), "-m", "openai:tiny", "--json"]
    b = {"logprob": -0.5, "rank": 2, "decoded_token": "b"}
    with odd(scored(None, {"7": b})) as base:
        ran = run(*arguments, "--api-base", base)
    assert json.loads(ran.out)["scores"]["mean_log_likelihood"] == -0.5
    for none in ((None, {"7": b, "8": b}), (None,), (None, 7)):  # of two tokens one is the text's, and nothing says which
        with odd(scored(*none)) as base:
            assert "no log-probabilities of given texts" in run(*arguments, "--api-base", base).err


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (400, ["too", "long"], "status 400: ['too', 'long']"),
        (400, {}, "status 400"),
        (418, None, "status 418"),
        (400, {"error": {"message": "the model `tiny` is `busy`"}}, "status 400: the model 'tiny' is 'busy'"),
        (200, {"error": "overloaded"}, "the error overloaded"),
        (200, {"error": {"error": {"message": "no GPU"}}}, "the error no GPU"),
        (200, {"choices": [{"index": 0, "message": {"content": "y"}, "error": {"message": "no GPU"}}]}, "the error no GPU"),
        (
            200,
            {"choices": [{"index": 0, "message": {"content": "y"}, "finish_reason": "error"}]},
            "an answer (finish reason error)",
        ),
        (
            200,
            {"choices": [{"index": 0, "message": {"content": "y"}, "finish_reason": "abort"}]},
            "an answer (finish reason abort)",
        ),
    ],
)
def test_an_error_is_told_as_the_server_tells_it(run: Run, tmp_path: Path, status: int, content: object, said: str) -> None:
    with odd(sends(status, content)) as base:
        assert asked(run, tmp_path, base)["error"].endswith(said)


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_without_an_end_is_read_as_far_as_a_message_needs(run: Run, tmp_path: Path, status: int) -> None:
    with odd(endless(status)) as base:
        error = asked(run, tmp_path, base)["error"]
    assert f"status {status}: xxx" in error
    assert len(error) < 400


def test_a_server_without_a_list_of_models_is_asked(run: Run, tmp_path: Path) -> None:
    for status in (404, 405, 410):
        (tmp_path / str(status)).mkdir()
        with odd(sends(200, reply()), models=sends(status, {})) as base:
            assert asked(run, tmp_path / str(status), base)["text"] == "yes"


def test_an_event_or_a_list_of_models_without_an_end_is_given_up(run: Run) -> None:
    with odd(endless(200, b"data: "), models=endless(200)) as base:
        ran = run("generate", "Is it?", "-m", "openai:tiny", "--api-base", base, "--max-retries", 0)
    assert ran.code == 5
    assert "an event of more than 4 MiB" in ran.err


def test_a_server_that_asks_for_a_year_does_not_hold_up_the_others(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": str(number)} for number in range(12)])
    year = {"Retry_After": "31536000"}
    for status in (429, 500):
        with odd(sends(200, reply())) as good, odd(sends(status, {}, **year)) as tired:
            at = ["-m", "openai:tiny", "--api-base", tired]
            out = tmp_path / f"{status}.jsonl"
            assert run("generate", "-i", rows, "-o", out, *at, "--api-base", good).code == 0
            assert [row["text"] for row in read_rows(out)] == ["yes"] * 12
            alone = run("generate", "-i", rows, "-o", tmp_path / f"{status}.alone.jsonl", *at)
            assert alone.code == 5
            assert "8760.0 hours" in alone.err


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_follows_a_redirect_to_another_server(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-this-test-0123456789")
    seen: list[str] = []

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        send(handler, 200, reply())

    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a secret"}])
    with odd(elsewhere, models=elsewhere) as other:
        target = other.replace("127.0.0.1", "localhost").replace("//", "//user:password@") + "/chat/completions"
        # the list of models is asked for first: of the one server it is sent on, of the other it is not
        for models in (None, sends(status, {}, Location=target)):
            with odd(sends(status, {}, Location=target), models=models) as base:
                ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", "-m", "openai:tiny", "--api-base", base)
            assert ran.code == 5
            assert f"sends requests on to http://localhost:{other.partition('1:')[2]}/chat/completions" in ran.err
            assert "--api-base" in ran.err
            assert "password" not in ran.err
    assert seen == []


def test_a_redirect_inside_a_server_is_followed_with_the_prompt(run: Run, tmp_path: Path) -> None:
    def moved(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v1/chat/completions":
            send(handler, 308, {}, Location="/v2/chat/completions")
        else:
            send(handler, 200, reply())

    with odd(moved) as base:
        assert asked(run, tmp_path, base)["text"] == "yes"


@pytest.mark.parametrize(
    ("headers", "said"),
    [({"Location": "/v2/chat/completions"}, "/v2/chat/completions"), ({"Location": "http://[::bad"}, "[::bad"), ({}, "does not say where")],
    ids=["as a GET", "no address", "nowhere"],
)
def test_a_redirect_that_would_lose_the_prompt_is_told(run: Run, tmp_path: Path, headers: dict[str, str], said: str) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "x"}])
    with odd(sends(302, {}, **headers)) as base:
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", "-m", "openai:tiny", "--api-base", base)
    assert ran.code == 5
    assert "sends requests on" in ran.err
    assert said in ran.err


@pytest.mark.parametrize("models", [None, sends(307, {}, Location="/v1/models")])
def test_redirects_in_a_circle_stop_the_run_at_once(run: Run, tmp_path: Path, models: Answer | None) -> None:
    def circle(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 308, {}, Location="/v2/chat/completions" if handler.path.startswith("/v1") else "/v1/chat/completions")

    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "x"}])
    with odd(circle, models=models) as base:
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", "-m", "openai:tiny", "--api-base", base)
    assert ran.code == 5
    assert f"{base} sends requests on in a circle" in ran.err
    assert "trying again" not in ran.err


def events(*deltas: dict[str, Any], ended: str | None = "stop") -> Answer:
    """A streamed answer of these parts."""
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": ended})
    data = "".join(f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices) + "data: [DONE]\n\n"
    return stream(data)


def stream(data: str, *, size: int | None = None) -> Answer:
    """Events as they are sent. size: in bytes, of which the last may never come."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", str(len(data.encode()) if size is None else size))
        handler.end_headers()
        handler.wfile.write(data.encode())
        handler.close_connection = True

    return answer


NULL, BEGIN = {"role": "assistant", "content": None}, {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("answer", "code", "out", "said"),
    [
        (events(NULL), 5, "", "the server's answer has no text (finish reason stop)"),
        (events(), 5, "", "the server's answer has no text (finish reason stop)"),
        (events(BEGIN, {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, ended="tool_calls"), 5, "", "called a tool"),
        (events(BEGIN, {"reasoning_content": "Hm"}, ended="length"), 5, "", "reasoning took all tokens"),
        (events(BEGIN, {"refusal": "I can't"}), 5, "", "refused to answer"),
        (events(BEGIN), 0, "\n", "the answer is empty"),
        (events(BEGIN, {"content": "so"}, ended="content_filter"), 0, "so\n", "the server ended the answer: content_filter"),
        (events(BEGIN, {"content": "so"}, ended="error"), 5, "so\n", "a part of an answer (finish reason error)"),
        (sends(200, {"error": {"message": "no GPU"}}, Content_Type="application/json"), 5, "", "the error no GPU"),
        (sends(200, reply(), Content_Type="application/json"), 0, "yes\n", ""),
        (events(BEGIN, {"reasoning_content": "Hm"}, {"content": "yes"}, ended=None), 0, "yes\n", ""),
    ],
    ids=["null", "nothing", "tool", "reasoning", "refusal", "empty", "cut", "broken", "failed", "whole", "reasoned"],
)
def test_a_streamed_answer_without_text_is_not_taken_for_one(run: Run, answer: Answer, code: int, out: str, said: str) -> None:
    with odd(answer) as base:
        ran = run("generate", "Hello", "-m", "openai:tiny", "--api-base", base, "--max-retries", 0)
    assert (ran.code, ran.out) == (code, out), ran.err
    assert "trying again" not in ran.err
    assert said in ran.err
    assert said or not ran.err


def test_a_stream_is_of_the_one_answer_and_tells_its_error(run: Run) -> None:
    def streams(*lines: str) -> Answer:
        return stream("\n\n".join(lines))

    def choice(number: int, text: str, ended: str | None = None) -> str:
        return "data: " + json.dumps({"choices": [{"index": number, "delta": {"content": text}, "finish_reason": ended}]})

    arguments = ["generate", "Hello", "-m", "openai:tiny", "--max-retries", 0, "--api-base"]
    with odd(streams(choice(0, "ye"), choice(1, "no", "stop"), ": alive", choice(0, "s", "stop"), "data: [DONE]", "")) as base:
        assert run(*arguments, base).out == "yes\n"
    with odd(streams(choice(0, "ye"), 'event: error\ndata: {"message": "no GPU"}', "data: [DONE]", "")) as base:
        ran = run(*arguments, base)
    assert (ran.code, ran.out) == (5, "ye\n")
    assert "the error no GPU" in ran.err


def part(text: str, ended: str | None = None, number: int = 0) -> str:
    return json.dumps({"choices": [{"index": number, "delta": {"content": text}, "finish_reason": ended}]})


YE, S, IN_LINES = f"data: {part('ye')}", f"data: {part('s', 'stop')}", "data: " + part("ye").replace(", ", ",\ndata: ")


@pytest.mark.parametrize(
    "answer",
    [
        stream(f"{YE}\r\r{S}\r\rdata: [DONE]\r\r"),
        stream(f"{YE}\r\n\r\n{S}\r\n\r\n"),
        stream(f"\ufeff{YE}\n\n{S}\n\n"),
        stream(f": hello\n\nretry: 5\n{YE}\n\n:\n\nid: 7\nevent: message\n{S}\n\n"),
        stream(f"{YE}\n\n{S}\n\ndata: [DONE]\n\n".replace("data: ", "data:")),
        stream(f"{IN_LINES}\n\n{S}\n\n"),
        stream(f"{YE}\n\ndata:\n\n{S}\n\n"),
        stream(f"{YE}\n{S}\ndata: [DONE]\n"),
        stream(f"{YE}\n\n{S}"),
        stream(f"{YE}\n\n{S}\n\n".replace("data:", "Data:")),
        stream(f"{YE}\n\n{S}\n\n", size=10_000),
    ],
    ids=["CR", "CRLF", "BOM", "comments", "no space", "lines", "empty", "close", "no end", "capital", "cut after it"],
)
def test_a_stream_is_read_as_its_standard_says(run: Run, answer: Answer) -> None:
    with odd(answer) as base:
        ran = run("generate", "Is it?", "-m", "openai:tiny", "--api-base", base, "--max-retries", 0)
    assert (ran.code, ran.out, ran.err) == (0, "yes\n", "")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (stream(f"{YE}\r\r"), "an incomplete stream"),
        (stream(f"{YE}\n\ndata: {part('no', 'stop', 1)}\n\n"), "an incomplete stream"),
        (stream(f"{YE}\n\n{S[:20]}"), "no JSON"),
        (stream(f"{YE}\n\n", size=10_000), "broke"),
        (stream(f"{YE}\n\nevent: error\ndata: no GPU\n\n"), "the error no GPU"),
        (stream(f'{YE}\n\nevent: error\ndata: {{"error":\ndata: "no GPU"}}\n\n'), "the error no GPU"),
    ],
    ids=["CR", "another choice", "half an event", "cut", "error", "lines"],
)
def test_a_stream_that_is_cut_is_no_answer(run: Run, answer: Answer, said: str) -> None:
    with odd(answer) as base:
        ran = run("generate", "Is it?", "-m", "openai:tiny", "--api-base", base, "--max-retries", 0)
    assert (ran.code, ran.out) == (5, "ye\n")
    assert said in ran.err


def test_an_empty_text_beside_reasoning_without_an_end_is_a_failed_row(run: Run, tmp_path: Path) -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "Hm"}
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Hello"}])
    with odd(sends(200, reply(choices=[{"index": 0, "finish_reason": "length", "message": message}]))) as base:
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", "-m", "openai:tiny", "--api-base", base)
    assert ran.code == 3
    assert "reasoning took all tokens" in read_rows(tmp_path / "out.jsonl")[0]["error"]
