"""Servers fail in every way; a run loses no row, answers none twice, and says what is wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Process, Run, finish, kill, read_rows, start, until, write_rows
from servers import FAULTS, FakeServer, said, serving

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.openai.client import Clock
from llmkit.engines.openai.engine import OpenAIEngine
from llmkit.engines.openai.failures import retry_after
from llmkit.engines.openai.protocol import seed_of
from llmkit.errors import TimeUpError, UnavailableError
from llmkit.jobs.outcome import Tally
from llmkit.jobs.output import Output
from llmkit.jobs.reporter import Silent
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
from llmkit.models.settings import ServerSettings
from llmkit.rows import open_rows
from llmkit.rows.fields import Prompt, PromptFields
from llmkit.tasks.generate import Answering

KEY = "sk-secret-of-this-test-0123456789"


@dataclass
class Waits:
    """A clock whose time passes only by waiting, and then at once. waits: how long was waited for what came next (seconds)."""

    time: float = 1000.0
    waits: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self.sleep, share=lambda: 0.0)


def engine_at(
    servers: Sequence[FakeServer], waits: Waits, *, timeout: float = 30.0, retries: int = 10, concurrency: int = 8, key: str | None = None
) -> OpenAIEngine:
    settings = ServerSettings(concurrency=concurrency, timeout=timeout, retries=retries)
    bases = tuple(server.base for server in servers)
    return OpenAIEngine("tiny", bases, key=key, server=settings, chat=ChatSettings("none"), clock=waits.clock())


def answer_file(engine: OpenAIEngine, rows: Path, out: Path) -> Tally:
    task = Answering(engine, Decoding(), PromptFields(), "text", rows.name)
    settings = JobSettings(batch_size=1, concurrency=engine.concurrency)
    with Output(str(out)) as output:
        return file_job(open_rows(str(rows)), task, settings, output, Silent(), RunName("generate"))


def many(path: Path, count: int) -> Path:
    return write_rows(path, [{"id": i, "prompt": f"row {i}"} for i in range(count)])


def expected(count: int) -> list[str]:
    return [said(f"row {i}", seed_of(Decoding(), i, 0)) for i in range(count)]


def every(third: int, faults: Sequence[str]) -> Callable[[int], str | None]:
    """Every third request fails, in one way after the other."""
    turn = itertools.cycle(faults)
    lock = threading.Lock()

    def fault(number: int) -> str | None:
        with lock:
            return next(turn) if number % third == 0 else None

    return fault


def test_faults_of_every_kind_lose_no_row_and_double_none(tmp_path: Path) -> None:
    rows, waits = many(tmp_path / "in.jsonl", 120), Waits()
    with serving(every(3, FAULTS)) as server:
        tally = answer_file(engine_at([server], waits, timeout=0.5), rows, tmp_path / "out.jsonl")
        assert (tally.rows, tally.failed) == (120, 0)
        assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == expected(120)
        assert set(server.faults) == set(FAULTS)
        # what was asked for again had failed: each row has one answer that arrived
        assert len(server.bodies) == 120 + len(server.faults)


def test_a_row_whose_every_try_fails_is_an_error_row(tmp_path: Path) -> None:
    rows = many(tmp_path / "in.jsonl", 3)
    for fault, said_so in (("500", "status 500"), ("html", "no JSON (text/html"), ("no choices", "no choices"), ("half json", "no JSON")):
        with serving() as server:
            server.fault = lambda _, server=server, fault=fault: fault if server.bodies[-1]["prompt"] == "row 1" else None  # type: ignore[misc]
            out = tmp_path / f"{fault}.jsonl"
            tally = answer_file(engine_at([server], Waits(), retries=2, concurrency=1), rows, out)
            assert tally.failed == 1
            assert said_so in read_rows(out)[1]["error"]
            assert "after 3 tries" in read_rows(out)[1]["error"]
            assert len(server.bodies) == 5


def test_a_request_that_is_at_fault_itself_is_not_asked_again(tmp_path: Path) -> None:
    rows = many(tmp_path / "in.jsonl", 3)
    message = "This model's maximum context length is 8 tokens. However, your prompt has 9."
    with serving(refuse=lambda body: (400, {"message": message}) if body["prompt"] == "row 1" else None) as server:
        tally = answer_file(engine_at([server], Waits()), rows, tmp_path / "out.jsonl")
        assert tally.failed == 1
        assert message in read_rows(tmp_path / "out.jsonl")[1]["error"]
        assert len(server.bodies) == 3


@pytest.mark.parametrize("fault", ["silent", "slow"])
def test_a_server_that_does_not_come_to_an_end_is_left_in_time(tmp_path: Path, fault: str) -> None:
    with serving(lambda number: fault if number < 2 else None) as server:
        tally = answer_file(engine_at([server], Waits(), timeout=0.3), many(tmp_path / "in.jsonl", 1), tmp_path / "out.jsonl")
        assert (tally.failed, len(server.bodies)) == (0, 3)


@pytest.mark.parametrize(("fault", "least"), [("429 seconds", 20.0), ("429 date", 28.0), ("500", 0.25)])
def test_a_retry_waits_as_long_as_the_server_asks(fault: str, least: float) -> None:
    waits = Waits()
    with serving(lambda number: fault if number == 0 else None) as server:
        engine = engine_at([server], waits)
        ((answer,),) = engine.generate([engine.make_request(PromptFields().prompt(_row(), "x"), Decoding())], Decoding())
    assert answer.error is None
    assert least <= sum(waits.waits) <= least + 21


def test_waits_grow_twofold_up_to_a_minute() -> None:
    waits = Waits()
    with serving(lambda _: "500") as server:
        engine = engine_at([server], waits, retries=9)
        ((answer,),) = engine.generate([engine.make_request(PromptFields().prompt(_row(), "x"), Decoding())], Decoding())
    assert answer.error is not None
    assert waits.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]  # with the least that chance leaves: half


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0), ({"retry-after": "0.5"}, 0.5), ({"retry-after-ms": "250"}, 0.25), ({"retry-after": "-3"}, 0.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(1_000_090, UTC), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(999_000, UTC), usegmt=True)}, 0.0),
        ({}, None), ({"retry-after": "soon"}, None), ({"retry-after": "inf"}, None), ({"retry-after": "nan"}, None),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_server_asks_for_is_read_as_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_000_000.0) == seconds


@pytest.mark.parametrize(
    ("status", "word"),
    [(401, "key"), (402, "payment"), (403, "refuses"), (404, "model"), (405, "support"), (407, "proxy"), (410, "any more")],
)
def test_what_no_request_can_change_stops_the_run_at_once(run: Run, tmp_path: Path, status: int, word: str) -> None:
    rows = many(tmp_path / "in.jsonl", 50)
    with serving(refuse=lambda _: (status, {"message": "no"})) as server:
        arguments = ["generate", "-i", rows, "-o", tmp_path / "out.jsonl", "-m", "openai:tiny", "--api-base", server.base]
        ran = run(*arguments, "--concurrency", "4")
        assert ran.code == 5
        assert word in ran.err
        assert f"status {status}" in ran.err
        assert len(server.bodies) <= 4
        server.refuse = lambda _: None
        assert run(*arguments).code == 0  # what is done is kept, and the rest follows


def test_a_quota_that_is_used_up_stops_the_run(run: Run, tmp_path: Path) -> None:
    with serving(refuse=lambda _: (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"})) as server:
        arguments = ["generate", "-i", many(tmp_path / "in.jsonl", 9), "-o", tmp_path / "out.jsonl", "--concurrency", "1"]
        ran = run(*arguments, "-m", "openai:tiny", "--api-base", server.base)
        assert ran.code == 5
        assert len(server.bodies) == 1


def test_an_unknown_model_is_named_with_those_that_are_there(run: Run) -> None:
    with serving() as server:
        ran = run("generate", "x", "-m", "openai:big", "--api-base", server.base)
    assert ran.code == 5
    assert "'big'" in ran.err
    assert "tiny" in ran.err


def test_a_server_that_is_not_there_ends_the_run_with_the_work_kept(tmp_path: Path) -> None:
    rows, out = many(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    with serving() as server:
        server.fault = lambda number: "429 seconds" if number >= 10 else None
        engine = engine_at([server], Waits(), retries=3, concurrency=1)

        def gone(number: int) -> str | None:
            if number == 10:
                threading.Thread(target=server.close).start()
                server.closed.wait(30)
            return None if number < 10 else "cut before"

        server.fault = gone
        with pytest.raises(UnavailableError, match="cannot be reached"):
            answer_file(engine, rows, out)
    assert not out.exists()
    with serving(port=server.port) as again:
        tally = answer_file(engine_at([again], Waits()), rows, out)
        assert (tally.resumed, tally.failed, len(again.bodies)) == (10, 0, 10)
    assert [row["text"] for row in read_rows(out)] == expected(20)


def test_no_server_at_the_address_is_said_at_once(run: Run) -> None:
    with serving() as server:
        base = server.base
    ran = run("generate", "x", "-m", "openai:tiny", "--api-base", base, "--max-retries", "1")
    assert ran.code == 5
    assert f"{base} cannot be reached" in ran.err


def test_the_work_of_a_server_that_fails_goes_to_the_others(tmp_path: Path) -> None:
    waits = Waits()
    with serving(lambda _: "502") as broken, serving() as working:
        tally = answer_file(engine_at([broken, working], waits, concurrency=2), many(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl")
        assert tally.failed == 0
        assert working.answered == 30
        assert len(broken.bodies) < 10
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == expected(30)


@pytest.mark.parametrize("fault", ["500", "half json", "cut before"])
def test_a_row_that_failed_at_a_server_goes_to_another(tmp_path: Path, fault: str) -> None:
    """A server whose engine has died answers at once, so that it has the fewest requests in flight, and would get each of them."""
    waits = Waits()
    with serving(lambda _: fault) as broken, serving(latency=0.02) as working:
        engine = engine_at([broken, working], waits, retries=1, concurrency=4)
        tally = answer_file(engine, many(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl")
        assert (tally.failed, working.answered) == (0, 30)
        assert len(broken.bodies) <= 30
    assert waits.waits == []
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == expected(30)


def test_a_stream_that_breaks_off_is_an_error(run: Run) -> None:
    with serving(lambda _: "cut inside") as server:
        ran = run("generate", "x", "-m", "openai:tiny", "--api-base", server.base, "--max-retries", "0")
    assert ran.code == 5
    assert len(ran.err.splitlines()) <= 4


def test_missing_usage_and_finish_reason_are_recorded_as_unknown(run: Run, tmp_path: Path) -> None:
    with serving(usage=False) as server:
        at = ["-m", "openai:tiny", "--api-base", server.base]
        ran = run("generate", "-i", many(tmp_path / "in.jsonl", 2), "-o", tmp_path / "out.jsonl", *at)
    assert ran.code == 0
    assert "does not say how many tokens" in ran.err
    assert {row["prompt_tokens"] for row in read_rows(tmp_path / "out.jsonl")} == {0}


def test_a_key_appears_nowhere(process: Process, tmp_path: Path) -> None:
    rows, out = many(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    echo = {"message": f"Incorrect API key provided: {KEY}. See https://user:{KEY}@host/"}
    with serving(key=KEY, refuse=lambda body: (400, echo) if body["messages"][0]["content"] == "row 1" else None) as server:
        arguments = ["generate", "-i", rows, "-o", out, "-m", "openai:tiny", "--api-base", server.base, "--debug", "--verbose"]
        good = process(*arguments, env={"OPENAI_API_KEY": KEY})
        assert good.code == 3
        wrong = process(*arguments, "--overwrite", env={"OPENAI_API_KEY": KEY + "x"})
        assert wrong.code == 5
        assert "OPENAI_API_KEY" in wrong.err
    everything = [good.out, good.err, wrong.out, wrong.err, *(path.read_text() for path in tmp_path.iterdir() if path.is_file())]
    assert [text for text in everything if KEY in text] == []
    assert "[key]" in read_rows(out)[1]["error"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "ftp://user:secret@127.0.0.1:1"), ("http_proxy", "http://[::bad"), ("SSL_CERT_FILE", "/nowhere"),
        ("OPENAI_ORG_ID", "secr\u00e9t"), ("OPENAI_API_KEY", "secret\nkey"),
    ],
)  # fmt: skip
def test_a_variable_that_no_connection_can_be_made_with_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    ran = run("generate", "x", "-m", "openai:tiny", "--api-base", "https://127.0.0.1:1/v1", "--max-retries", "0")
    assert ran.code == 5, ran.err
    assert name in ran.err
    assert "secr" not in ran.err


def test_an_address_with_a_password_is_refused_and_not_repeated(run: Run) -> None:
    ran = run("generate", "x", "-m", "openai:tiny", "--api-base", f"http://user:{KEY}@localhost/v1")
    assert ran.code == 2
    assert KEY not in ran.err
    assert "OPENAI_API_KEY" in ran.err


def test_a_record_does_not_say_where_a_key_is_sent(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as server:
        out = tmp_path / "out.jsonl"
        assert run("generate", "-i", many(tmp_path / "in.jsonl", 2), "-o", out, "-m", "openai:tiny", "--api-base", server.base).code == 0
        record = tmp_path / "out.jsonl.run.json"
        assert run("rerun", record).code == 2
        assert len(server.bodies) == 2
        ran = run("rerun", record, "--api-base", server.base)
        assert ran.code == 0, ran.err
        assert "same result" in ran.err


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    rows = many(tmp_path / "in.jsonl", 90)
    with serving(latency=0.02) as server:

        def job(name: str) -> list[Any]:
            at = ["-m", "openai:tiny", "--api-base", server.base, "--concurrency", "4"]
            return ["generate", "-i", rows, "-o", tmp_path / name, *at]

        assert finish(start(*job("whole.jsonl"))).code == 0
        before, journal = len(server.bodies), tmp_path / "killed.jsonl.journal"
        for lines in (15, 45):
            running = start(*job("killed.jsonl"))
            assert until(lambda lines=lines: journal.exists() and journal.read_bytes().count(b"\n") > lines, running)  # type: ignore[misc]
            assert kill(running)
        assert finish(start(*job("killed.jsonl"))).code == 0
        assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        assert len(server.bodies) - before <= 90 + 2 * 4 + 8  # what was in flight, or answered and not yet in the journal


def test_a_signal_lets_the_requests_in_flight_come_back(tmp_path: Path) -> None:
    rows, out = many(tmp_path / "in.jsonl", 200), tmp_path / "out.jsonl"
    with serving(latency=0.05) as server:
        arguments = ["generate", "-i", rows, "-o", out, "-m", "openai:tiny", "--api-base", server.base, "--concurrency", "4"]
        running = start(*arguments)
        assert until(lambda: server.answered > 12, running)
        running.terminate()
        assert finish(running).code == 143
        done = sum(len(json.loads(line[9:])["rows"]) for line in Path(f"{out}.journal").read_text().splitlines()[1:])
        assert done == server.answered == len(server.bodies)


@pytest.mark.parametrize("fault", ["silent", "429 seconds"])
def test_waiting_for_a_server_ends_when_the_run_has_to(fault: str) -> None:
    with serving(lambda _: fault) as server:
        engine = OpenAIEngine("tiny", (server.base,), server=ServerSettings(), chat=ChatSettings("none"))

        def check() -> None:
            if server.faults:
                raise TimeUpError("the time is up")

        with pytest.raises(TimeUpError):
            engine.generate([engine.make_request(Prompt(text="a"), Decoding())], Decoding(), check=check)
        assert len(server.bodies) == 1


def _row() -> Any:
    from llmkit.rows import Row

    return Row(0, 1, {"prompt": "row 0"})
