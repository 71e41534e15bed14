"""Calls of a model that run side by side on a CPU, each on cores of its own, so that no core waits at each operation for the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

#: Calls at once: each holds states of its own in memory, and reads all weights.
_CALLS = 4
#: Calls of which the one is looked for that is better run on all cores; of more, the last to end leaves few cores idle for long.
_FEW = 16


def calls(works: int = _CALLS) -> int:
    """How many calls run at once where there are so many to make: each with as many of torch's threads, and no thread is left over."""
    threads = torch.get_num_threads()
    return max(number for number in range(1, _CALLS + 1) if number == 1 or (number <= works and threads % number == 0))


def side_by_side(works: Sequence[Callable[[], T]], sizes: Sequence[int]) -> list[T]:
    """What each returns, in order; as many run at once as `calls` says. Raises what one of them raises, once none runs any more.

    sizes: how much there is to compute. Which work has which cores hangs on nothing else.
    """
    count = calls(len(works))
    if count == 1:
        return [work() for work in works]
    order = sorted(range(len(works)), key=lambda number: -sizes[number])
    alone = _alone([sizes[number] for number in order], count)
    first = [] if alone is None else [order.pop(alone)]
    done = {number: works[number]() for number in first} | _at_once({number: works[number] for number in order}, count)
    return [done[number] for number in range(len(works))]


def _alone(sizes: Sequence[int], count: int) -> int | None:
    """Which work had better run before the others, on all cores; None if none. sizes: from the largest."""

    def seconds(alone: int | None) -> float:
        ends = [0.0] * count
        for number, size in enumerate(sizes):
            if number != alone:
                ends[ends.index(min(ends))] += size
        return max(ends) + (0 if alone is None else sizes[alone] / count)

    return min([None, *range(len(sizes))], key=seconds) if len(sizes) <= _FEW else None


def _at_once(works: Mapping[int, Callable[[], T]], count: int) -> dict[int, T]:
    """What they return, `count` of them at once, begun in their order."""
    threads, ready = torch.get_num_threads(), threading.Barrier(count + 1)
    waiting = queue.SimpleQueue[int]()
    for number in works:
        waiting.put(number)
    done: dict[int, T] = {}
    raised: list[BaseException] = []

    def run() -> None:
        torch.get_num_threads()  # a thread takes over the number of others when it first looks, and would do so later
        torch.set_num_threads(threads // count)
        ready.wait()
        while not raised:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done[number] = works[number]()
            except BaseException as exc:  # raised in the thread that waits
                raised.append(exc)

    # Ctrl-C ends a program at once: as daemons, threads are not waited for, which may be in a call of many seconds
    team = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for member in team:
        member.start()
    ready.wait()
    torch.set_num_threads(threads)  # what was set last also holds for threads that begin later
    try:
        for member in team:
            member.join()
    except BaseException as exc:  # as Ctrl-C does
        raised.append(exc)
        raise
    if raised:
        raise raised[0]
    return done
