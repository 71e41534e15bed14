"""Which prompts one call of CTranslate2 answers.

The library reads the prompts of a call together as far as the shortest one goes, and what is left of the longer ones step by step, as
it writes (4.8.5): beside a prompt of ten tokens, one of a thousand takes as many steps as an answer of a thousand. Further calls cost
steps, too, so what takes least is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

#: What each row adds to a step, and what a token costs that is read with others, both in steps of one row. Measured on 2 cores of AMD
#: EPYC (Zen 3) with GPT-2 small's shape: a tenth and a fifteenth in float32, a fourteenth and a twelfth in int8.
_ROW, _READ = 1 / 10, 1 / 15


def parts(
    prompts: Sequence[Sequence[int]], limits: Sequence[int], most: int, *, same_limit: bool, encoded: bool, context: int | None = None
) -> Iterator[list[int]]:
    """The numbers of the prompts that run together, at most so many, by their lengths.

    limits: of each answer. same_limit: it decides more than where an answer ends. encoded: an encoder reads the prompts, all at once.
    A row goes on until all of its part have ended, which must stay inside the context. Beside a prompt of one token the library
    gives the others back with their prompts (4.8.5), so those have calls of their own.
    """

    def apart(part: list[int], other: int) -> bool:
        one, limit = part[0], max(limits[i] for i in (*part, other))
        if context is not None and any(len(prompts[i]) + limit > context for i in (*part, other) if limits[i] != limit):
            return True
        return (len(prompts[one]) == 1) != (len(prompts[other]) == 1) or (same_limit and limits[one] != limits[other])

    lengths = [1 if encoded else len(prompt) for prompt in prompts]
    part: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: (limits[i] if same_limit else 0, len(prompts[i]))):
        if part and apart(part, i):
            yield from _cheapest(part, lengths, limits, most)
            part = []
        part.append(i)
    yield from _cheapest(part, lengths, limits, most)


def _cheapest(group: Sequence[int], lengths: Sequence[int], limits: Sequence[int], most: int) -> Iterator[list[int]]:
    """A group of prompts, from short to long, in the parts that take least time together."""
    least, begins = [0.0], [0]  # of the first so many prompts: the time, and where the last part begins
    for end in range(1, len(group) + 1):
        longest = lengths[group[end - 1]]
        limit = tokens = 0
        time, begin = math.inf, end
        for first in range(end - 1, max(0, end - most) - 1, -1):
            shortest, rows = lengths[group[first]], end - first
            limit, tokens = max(limit, limits[group[first]]), tokens + lengths[group[first]]
            steps, row_steps = longest - shortest + limit, tokens + rows * (limit - shortest)
            whole = least[first] + steps + _ROW * row_steps + _READ * rows * shortest
            if whole <= time:
                time, begin = whole, first
        least.append(time)
        begins.append(begin)
    ends = [len(group)]
    while ends[-1]:
        ends.append(begins[ends[-1]])
    for begin, end in zip(ends[:0:-1], ends[-2::-1], strict=True):
        yield list(group[begin:end])
