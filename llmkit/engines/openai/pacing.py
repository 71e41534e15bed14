"""Which server is asked next, and when: several servers share the work, one that fails or is busy rests.

Knows addresses and times; not requests.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: Seconds over which answers are counted to learn a server's rate.
_SPAN = 2.0
#: ... and how long answers must have come before the rate is known.
_KNOWN = 0.5
#: A rate is lowered at most once in so many seconds: refusals that come together are one.
_APART = 1.0
#: What a refusal leaves of the rate; the share that a second adds to it, and by how much that share grows with each further second.
_DOWN, _UP, _FASTER = 0.9, 0.05, 0.1
#: ... and the share that each request adds at most.
_EACH = 0.002
#: Requests per second below which a rate is not lowered.
_SLOWEST = 0.1
#: A wait that a server asks for so long is for all requests, not only for the refused one (seconds).
_LONG = 5.0
#: The longest rest of a server that can't be reached (seconds).
_LONGEST_REST = 30.0


@dataclass
class Pace:
    """How fast requests may follow each other: as they like until a server refuses one as too many.

    From then on the rate is at most the one at which answers came back, a tenth lower after each refusal and rising again, the
    faster the longer there was none, so that it stays close under the server's limit. Times are of a clock in seconds.
    """

    rate: float | None = None
    _answers: deque[float] = field(default_factory=lambda: deque(maxlen=1 << 14))
    _first: float | None = None
    _next: float = 0.0
    _raised: float = 0.0
    _lowered: float = float("-inf")

    def reserve(self, now: float) -> float:
        """The time at which the next request may begin; the place is taken."""
        if self.rate is None:
            return now
        calm = now - self._lowered
        share = min(_UP + _FASTER * calm, _EACH * self.rate * (1 + calm))  # a refusal costs more where requests are few
        self.rate *= 1 + share * max(0.0, now - self._raised)
        self._raised = max(now, self._raised)
        begin = max(now, self._next)
        self._next = begin + 1 / self.rate
        return begin

    def answered(self, now: float) -> None:
        self._first = now if self._first is None else self._first
        self._answers.append(now)

    def refused(self, now: float) -> None:
        """A request was too many."""
        span = min(_SPAN, now - self._first) if self._first is not None else 0.0
        if now - self._lowered < _APART or span < _KNOWN:  # before that nothing is known
            return
        measured = sum(now - span <= at for at in self._answers) / span
        lower = measured if self.rate is None else min(self.rate * _DOWN, max(measured * 1.25, self.rate / 2))
        self.rate, self._lowered, self._raised = max(_SLOWEST, lower), now, now
        self._next = max(self._next, now)


@dataclass
class Server:
    """A server. out: requests that are in flight. failures: in a row, without an answer between them."""

    base: str
    out: int = 0
    failures: int = 0
    rests_until: float = 0.0
    pace: Pace = field(default_factory=Pace)

    def answered(self, now: float) -> None:
        self.failures = 0
        self.pace.answered(now)

    def refused(self, now: float, wait: float | None) -> None:
        """It had too many requests, and asks to wait so many seconds (None: it does not say)."""
        self.pace.refused(now)
        if wait is not None and wait >= _LONG:
            self.rests_until = max(self.rests_until, now + wait)

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

    def take(self, now: float) -> tuple[Server, float]:
        """The server for the next request, and when the request may begin: one that does not rest, with the fewest in flight."""
        server = min(self.servers, key=lambda each: (max(each.rests_until, now), each.out))
        server.out += 1
        return server, max(server.rests_until, server.pace.reserve(now))

    def has_ready(self, now: float) -> bool:
        """Whether a server does not rest."""
        return any(server.rests_until <= now for server in self.servers)
