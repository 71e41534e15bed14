"""Which server is asked next, and when: several servers share the work, one that fails or is busy rests.

Knows addresses and times; not requests.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

#: Requests per second after the first refusal. The rate doubles in so many seconds until the next one.
_FIRST, _DOUBLES = 10.0, 0.5
#: What a refusal takes of the rate, twice as much when the rate before was refused, too, and at most so much.
_DOWN, _MOST_DOWN = 0.03, 0.5
#: What is added to the rate in a second, and by a request at most; and in a second far below the rate that was refused last.
_UP, _EACH, _FAR_UP = 0.01, 0.0005, 0.3
#: Shares of the rate that was refused last: below is far from it, and requests that went well until a refusal is a new one.
_FAR, _CALM = 0.9, 10
#: Seconds without a refusal after which the rate rises faster and faster: the limit may be another one now.
_PATIENT = 10.0
#: Requests per second below which a rate is not lowered.
_SLOWEST = 0.05
#: A wait that a server asks for so long is for all requests, not only for the refused one (seconds).
LONG = 5.0
#: The longest rest of a server that can't be reached (seconds).
_LONGEST_REST = 30.0


@dataclass
class Pace:
    """How fast requests may follow each other: as they like until a server refuses one as too many, evenly spaced from then on.

    The rate is found as congestion control finds it: doubled until a refusal, halved then, and from there raised slowly and
    lowered by a little at each refusal, so that it stays close under the server's limit. How many answers came back while requests
    came in bursts says little about that limit: one that admits a request each 20 ms refuses every second of those that come each
    19 ms. Times are of a clock in seconds.
    """

    rate: float | None = None
    _refused: float | None = None  # the rate that was too high last; None while the rate is doubled
    _hits: int = 0  # refusals of one rate after the other
    _next: float = 0.0
    _raised: float = 0.0
    _lowered: float = float("-inf")

    @property
    def ready(self) -> float:
        """The time at which the next request may begin. Who waits for it asks again then: a refusal may have come between."""
        return self._next

    def begin(self, now: float) -> None:
        """A request begins."""
        if self.rate is not None:
            self.rate = self._raised_to(self.rate, now)
            self._next = now + 1 / self.rate

    def refused(self, now: float, begun: float) -> None:
        """A request that began at `begun` was too many. One that began before the rate was lowered says nothing new."""
        if begun <= self._lowered:
            return
        if self.rate is None:
            self.rate = _FIRST
        else:
            down = _MOST_DOWN if self._refused is None else min(_MOST_DOWN, _DOWN * 2**self._hits)
            self._refused, self._hits = self.rate, self._hits + 1
            self.rate = max(_SLOWEST, self.rate * (1 - down))
        self._lowered = self._raised = now
        self._next = now + 1 / (2 * self.rate)  # close to the limit, what was missing for the refused one is nearly there

    def _raised_to(self, rate: float, now: float) -> float:
        passed = min(now - self._raised, 2 / rate)  # time without requests says nothing
        calm, self._raised = now - self._lowered, now
        if calm * rate > _CALM:
            self._hits = 0
        if self._refused is None:
            return rate * 2 ** (passed / _DOUBLES)
        if rate < _FAR * self._refused:
            return rate * (1 + min(_FAR_UP * passed, 0.1))
        return rate * (1 + min(_UP * passed, _EACH) * max(1.0, calm / _PATIENT) ** 2)


@dataclass
class Server:
    """A server. out: requests that are in flight. failures: in a row, without an answer between them."""

    base: str
    out: int = 0
    failures: int = 0
    rests_until: float = 0.0
    pace: Pace = field(default_factory=Pace)

    @property
    def ready(self) -> float:
        """The time at which a request may begin, as far as it is known now."""
        return max(self.rests_until, self.pace.ready)

    def answered(self) -> None:
        """An answer came: failures in a row are counted anew."""
        self.failures = 0

    def refused(self, now: float, begun: float) -> None:
        """It had too many requests with the one that began then."""
        self.pace.refused(now, begun)

    def rest(self, until: float) -> None:
        """It asks for no requests before that time."""
        self.rests_until = max(self.rests_until, until)

    def unreachable(self, now: float) -> None:
        """No request gets there. Those that fail while it rests are of the same failure."""
        if now < self.rests_until:
            return
        self.failures += 1
        self.rests_until = max(self.rests_until, now + min(_LONGEST_REST, 0.5 * 2 ** min(self.failures - 1, 10)))


class Pool:
    """The servers that share the work. answers: how many there were, those that say no included."""

    def __init__(self, bases: tuple[str, ...]) -> None:
        self.servers = [Server(base) for base in bases]
        self.answers = 0

    def take(self, now: float, failed: Container[str] = ()) -> Server:
        """The server for the next request: one that does not rest, with the fewest in flight; rather none of those it `failed` at.

        A server that is broken fails at once, and so would have the fewest.
        """
        server = min(self.servers, key=lambda each: (max(each.rests_until, now), each.base in failed, each.out))
        server.out += 1
        return server

    def has_ready(self, now: float, failed: Container[str] = ()) -> bool:
        """Whether a server does not rest that is none of those that `failed`."""
        return any(server.rests_until <= now and server.base not in failed for server in self.servers)
