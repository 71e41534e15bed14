"""Requests to servers: many in flight, each tried again until it has an answer, cannot have one, or has been tried enough.

The requests run in an event loop in a thread of its own, so that a request has one time limit for all of it, and an error ends all
of them at once. The client library neither retries nor reads answers here. Knows HTTP; not decoding.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llmkit.engines.base import Check, never_stop
from llmkit.engines.openai import reading
from llmkit.engines.openai.failures import Failure, Redactor, RedirectError, failure_of
from llmkit.engines.openai.pacing import LONG, Pool, Server
from llmkit.errors import LlmkitError, UnavailableError, one_line
from llmkit.models.settings import ServerSettings, network_hint

T = TypeVar("T")

#: Bytes that are read of an error; unpacked, where they came compressed.
_MOST_ERROR = 1 << 16
#: Statuses with which a server says that it has no list of its models.
_NO_LIST = (404, 405, 410)
#: Redirects of one request; more of them go in a circle.
_MOST_REDIRECTS = 5
#: Seconds before a second try at least and at most; each further try waits twice as long, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
#: Seconds between two looks at whether the run has to end.
_LOOK = 0.2
#: A server that asks to wait longer than this ends the run, which can be continued then (seconds).
_TOO_LONG = 3600.0


@dataclass(frozen=True)
class Clock:
    """Time as requests see it. now: seconds of a clock that never jumps; date: seconds since 1970; share: random, from 0 to 1."""

    now: Callable[[], float] = time.monotonic
    date: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    share: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # noqa: S311 (spreads waits)


class NoAnswerError(Exception):
    """A request that has no answer for good; its text is the reason. status: of HTTP, None when there was none."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class _Try:
    """A request that is made ready for a server, and begins when it is its turn. turn: waits for that. limit: of its time, from then on."""

    server: Server
    turn: Callable[[_Try], Awaitable[None]]
    limit: asyncio.Timeout
    begun: float | None = None


#: The try that runs: the client library tells a hook which request it is about to send, not for whom.
_TRY: ContextVar[_Try] = ContextVar("_TRY")


class Client:
    """Asks the servers of `bases`. key: what they want to see, None for none.

    warn: told once that a server is not reached, or wants fewer requests.
    """

    def __init__(
        self, bases: tuple[str, ...], key: str | None, settings: ServerSettings, *, clock: Clock, warn: Callable[[str], None]
    ) -> None:
        self._settings, self._clock, self._warn = settings, clock, warn
        self.pool = Pool(bases)
        self._clean = Redactor(key)
        self._library = {base: _library(base, key, settings) for base in bases}
        self._turns = {base: asyncio.Lock() for base in bases}  # who is next to begin, so that requests are spaced as they begin
        self._warned: set[str] = set()
        self._ended: LlmkitError | None = None
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(self._loop, tuple(self._library.values())), daemon=True)
        thread.start()
        self._room = asyncio.Semaphore(settings.concurrency)
        weakref.finalize(self, _stop, self._loop, thread)

    def run(self, work: Coroutine[Any, Any, T], check: Check = never_stop) -> T:
        """What a coroutine returns that runs in the loop. check: called now and then; what it raises ends the requests."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not concurrent.futures.wait((future,), None if check is never_stop else _LOOK).done:
                check()
        except BaseException:
            future.cancel()
            raise
        return future.result()

    async def ask(self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """What `read` makes of the answer to a request; it raises BrokenAnswerError for what is no answer.

        Raises NoAnswerError when there is none for good, and UnavailableError when no request can have one.
        """

        async def once(server: Server) -> T:
            async with self._opened(server, path, body) as response:
                return read(await reading.whole(response))

        return await self._until_answered(once)

    async def stream(self, path: str, body: Mapping[str, Any], take: Callable[[dict[str, Any]], None]) -> None:
        """Hands each event of a streamed answer to `take`. Tried again only while there was none. Raises what `ask` raises."""
        begun = False

        async def once(server: Server) -> None:
            nonlocal begun
            async with self._opened(server, path, body) as response:
                async for event in reading.events(response):
                    take(event)
                    begun = True

        await self._until_answered(once, again=lambda: not begun)

    async def models(self) -> dict[str, dict[str, Any]]:
        """The models of the first server that answers, by name; empty where it does not list them. Raises UnavailableError."""
        import openai

        def read(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
            listed = content.get("data")
            return {str(m["id"]): m for m in listed if isinstance(m, dict) and "id" in m} if isinstance(listed, list) else {}

        async def once(server: Server) -> dict[str, dict[str, Any]]:
            try:
                async with self._library[server.base].models.with_streaming_response.list() as response:
                    return read(await reading.whole(response))
            except openai.APIStatusError as exc:
                if exc.status_code in _NO_LIST:
                    return {}
                raise

        try:
            return await self._until_answered(once, retries=min(self._settings.retries, len(self.pool.servers) + 1))
        except NoAnswerError:
            return {}

    @asynccontextmanager
    async def _opened(self, server: Server, path: str, body: Mapping[str, Any]) -> AsyncIterator[Any]:
        library = self._library[server.base]
        made = library.chat.completions if path == "/chat/completions" else library.completions
        known = {name: body[name] for name in ("model", "prompt", "messages") if name in body}
        more = {name: value for name, value in body.items() if name not in known}
        create: Any = made.with_streaming_response.create
        async with create(**known, extra_body=more) as response:
            yield response

    async def _until_answered(
        self, once: Callable[[Server], Awaitable[T]], *, retries: int | None = None, again: Callable[[], bool] = lambda: True
    ) -> T:
        before = self.pool.answers
        most = self._settings.retries if retries is None else retries
        failed: set[str] = set()  # the servers that it failed at, until it has failed at all
        async with self._room:
            for tries in range(most + 1):
                server = self.pool.take(self._clock.now(), failed)
                answer, failure = await self._try(server, once)
                if failure is None:
                    return answer  # type: ignore[return-value]
                if failure.kind == "row":
                    raise NoAnswerError(failure.reason, failure.status)
                last = tries == most or not again()
                if failure.kind == "stop" or (last and failure.unreachable and self.pool.answers == before):
                    self._ended = UnavailableError(failure.reason, hint=failure.hint or "finished work is kept; run the same command again")
                    raise self._ended
                if last:
                    raise NoAnswerError(failure.reason + (f", after {tries + 1} tries" if tries else ""), failure.status)
                if server.base not in self._warned:
                    self._warned.add(server.base)
                    self._warn(f"{one_line(failure.reason)}; trying again")
                failed = failed | {server.base} if len(failed) + 1 < len(self.pool.servers) else set()
                await self._wait(failure, tries, failed)
        raise AssertionError("unreachable")

    async def _try(self, server: Server, once: Callable[[Server], Awaitable[T]]) -> tuple[T | None, Failure | None]:
        try:
            async with asyncio.timeout(None) as limit:
                _TRY.set(current := _Try(server, self._begin, limit))
                answer = await once(server)
        except LlmkitError:
            raise
        except Exception as exc:
            if self._ended is not None:
                raise self._ended from None
            failure = failure_of(exc, server.base, self._clean, self._clock.date())
            self._note(server, failure, current.begun or 0.0)
            return None, failure
        finally:
            server.out -= 1
        self.pool.answers += 1
        server.answered()
        return answer, None

    async def _begin(self, current: _Try) -> None:
        """Waits until it is the turn of a request that is ready: what it takes to make one ready would make its time inexact."""
        server, clock = current.server, self._clock
        async with self._turns[server.base]:
            while (early := server.ready - clock.now()) > 0 and self._ended is None:
                await clock.sleep(early)
            current.begun = clock.now()
            server.pace.begin(current.begun)
        if self._ended is not None:
            raise self._ended
        current.limit.reschedule(asyncio.get_running_loop().time() + self._settings.timeout)

    def _note(self, server: Server, failure: Failure, begun: float) -> None:
        """What a failure of a request that began then says of the server. An answer that says no is an answer."""
        now = self._clock.now()
        if failure.busy:
            server.refused(now, begun)
        if failure.wait is not None and failure.wait >= LONG:
            server.rest(now + failure.wait)
        if failure.unreachable:
            server.unreachable(now)
        if failure.status is not None and not failure.unreachable:
            self.pool.answers += 1

    async def _wait(self, failure: Failure, tries: int, failed: Container[str]) -> None:
        """Waits before the next try: as long as the server asks, twice as long each time, spread by chance.

        failed: the servers that are not asked next.
        """
        asked = failure.wait or 0.0
        if asked >= LONG and self.pool.has_ready(self._clock.now()):
            return  # the server that asks for it rests
        if asked > _TOO_LONG:
            self._ended = UnavailableError(
                f"{failure.reason}; it asks to wait {asked / 3600:.1f} hours", hint="run the same command again then"
            )
            raise self._ended
        others = failed if failure.wait is None and not failure.busy else ()
        if (failure.unreachable or others) and self.pool.has_ready(self._clock.now(), others):
            return  # another server takes it now
        share = self._clock.share()
        backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**tries) * (0.5 + share / 2)
        await self._clock.sleep(max(asked * (1 + share / 10), backoff))


async def _take_turn(_: Any) -> None:
    """Before a request is sent: waits until it may be."""
    current = _TRY.get()
    await current.turn(current)


def _library(base: str, key: str | None, settings: ServerSettings) -> Any:
    """The client library for a server: it tries once, and reads no more of an error than a message needs.

    The thread of the requests holds it, so it does not hold the `Client`, with which that thread ends.
    """
    import openai

    async def shorten(response: Any) -> None:
        if response.is_error or response.has_redirect_location:  # the library reads all of it, however long it is
            parts = response.aiter_bytes
            response.aiter_bytes = lambda *size: _first(response, parts(*size))

    hooks: Any = {"request": [_take_turn], "response": [_stay, shorten]}
    try:
        connections = openai.DefaultAsyncHttpxClient(event_hooks=hooks, timeout=settings.timeout, max_redirects=_MOST_REDIRECTS)
    except Exception as exc:  # of proxies, of their packages, of certificates
        raise UnavailableError(f"no connection to {base} can be prepared: {Redactor(key)(exc)}", hint=network_hint()) from exc
    return openai.AsyncOpenAI(api_key=key or "none", base_url=base, max_retries=0, timeout=settings.timeout, http_client=connections)


async def _stay(response: Any) -> None:
    """Prompts go to the server that was named, and nowhere else. Raises RedirectError when it sends a request on to another.

    The same server by HTTPS is no other. A redirect that turns a POST into a GET (301, 302, 303) would lose the prompt.
    """
    if not response.has_redirect_location:
        return
    asked, named = response.request.url, response.headers["location"]
    try:
        target = asked.join(named)
    except Exception:  # of an address that can't be one
        raise RedirectError(named) from None
    same = (target.scheme, target.host, target.port) == (asked.scheme, asked.host, asked.port)
    secured = target.host == asked.host and (asked.scheme, target.scheme) == ("http", "https") and not (asked.port or target.port)
    keeps = response.request.method == "GET" or response.status_code in (307, 308)
    if not keeps or not (same or secured):
        raise RedirectError(str(target))


async def _first(response: Any, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first bytes of an error; the connection of a longer one is closed."""
    size = 0
    async for part in parts:
        yield part[: _MOST_ERROR - size]
        size += len(part)
        if size >= _MOST_ERROR:
            await response.aclose()
            return


def _run(loop: asyncio.AbstractEventLoop, libraries: Sequence[Any]) -> None:
    """Runs the loop until it is stopped, and ends what is left in it: what stayed would complain when the process ends.

    libraries: clients that are closed then; one that is not would try it in the loop of another.
    """
    try:
        loop.run_forever()
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        for library in libraries:
            loop.run_until_complete(library.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join(1.0)
