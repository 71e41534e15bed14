"""How close requests come to a server's limit, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass

import pytest

from llmkit.engines.openai.pacing import Pace


@dataclass
class Bucket:
    """A server that admits `rate` requests a second, of which `burst` may come at once; after a minute `later` a second, if given."""

    rate: float
    burst: float
    tokens: float = 1.0
    filled: float = 0.0
    later: float | None = None

    def admits(self, now: float) -> bool:
        rate = self.rate if self.later is None or now < 60 else self.later
        self.tokens, self.filled = min(self.burst, self.tokens + (now - self.filled) * rate), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def simulated(
    bucket: Bucket, *, seconds: float, latency: float, trip: float = 0.002, jitter: float = 0.0, clients: int = 16
) -> tuple[int, int]:
    """Requests of `clients` at once that were admitted and refused.

    latency: seconds of an answer. trip: seconds to the server, and from it. jitter: seconds that a request may be late. A refused
    request is asked for again after a second and a little more, as Retry-After says.
    """
    pace, chance, waiting = Pace(), random.Random(0), deque(range(clients))
    admitted = refused = 0
    events: list[tuple[float, int, str, float]] = [(0.0, -1, "turn", 0.0)]
    while events:
        now, client, what, begun = heapq.heappop(events)
        if now > seconds:
            break
        if what == "turn":  # of the client that has waited longest
            if not waiting or pace.ready > now:
                heapq.heappush(events, (max(pace.ready, now + 0.0005), -1, "turn", 0.0))
                continue
            pace.begin(now)
            heapq.heappush(events, (now + trip + chance.random() * jitter, waiting.popleft(), "arrive", now))
            heapq.heappush(events, (now, -1, "turn", 0.0))
        elif what == "back":
            waiting.append(client)
        elif what == "refused":
            pace.refused(now, begun)
            heapq.heappush(events, (now + 1 + chance.random() / 10, client, "back", 0.0))
        elif bucket.admits(now):
            admitted += 1
            heapq.heappush(events, (now + latency + trip, client, "back", 0.0))
        else:
            refused += 1
            heapq.heappush(events, (now + trip, client, "refused", begun))
    return admitted, refused


@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.parametrize("rate", [1.0, 5.0, 20.0, 50.0])
def test_a_strict_limit_is_nearly_used(rate: float, burst: int) -> None:
    seconds = 120 if rate >= 5 else 300  # a slow limit takes longer to be known
    admitted, refused = simulated(Bucket(rate, burst), seconds=seconds, latency=0.1)
    assert admitted >= 0.93 * seconds * rate
    assert refused <= 0.1 * admitted + 20  # 16 begin at once, before anything is known


@pytest.mark.parametrize("burst", [1, 5])
def test_requests_that_are_a_little_late_by_chance_cost_little(burst: int) -> None:
    admitted, _ = simulated(Bucket(20.0, burst), seconds=120, latency=0.1, jitter=0.003)
    assert admitted >= 0.9 * 120 * 20


def test_a_limit_that_is_raised_is_soon_used() -> None:
    admitted, _ = simulated(Bucket(20.0, 5, later=40.0), seconds=120, latency=0.1, clients=64)
    assert admitted >= 0.85 * (60 * 20 + 60 * 40)


def test_a_server_far_away_is_used_as_well() -> None:
    admitted, _ = simulated(Bucket(20.0, 5), seconds=120, latency=0.3, trip=0.05)
    assert admitted >= 0.9 * 120 * 20


def test_without_a_limit_nothing_is_held_back() -> None:
    admitted, refused = simulated(Bucket(1e9, 1e9, 1e9), seconds=10, latency=0.1, clients=50)
    assert admitted == pytest.approx(50 * 10 / 0.104, rel=0.02)
    assert refused == 0
