"""How often the rows of each training file are seen.

Knows counts and weights; not rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class FileMixture:
    """The examples of several files, one file after another. counts: of each file.

    weights: how often an epoch sees each example of a file, empty for once. With 2 it sees each twice; with 0.5 half of them, and the
    next epoch the other half.
    """

    counts: tuple[int, ...]
    weights: tuple[float, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many examples of each file an epoch has: the same in every epoch, at least one of a file that has any."""
        if not self.weights:
            return self.counts
        return tuple(max(1, round(n * weight)) if n else 0 for n, weight in zip(self.counts, self.weights, strict=True))

    @property
    def size(self) -> int:
        """Examples of an epoch, of all files together."""
        return sum(self.sizes)

    def epoch(self, number: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The examples of an epoch by their index in all of them, shuffled: [size], int64. A function of its arguments alone."""
        import numpy as np

        shuffled = np.random.default_rng((seed, 0, number)).permutation(self.size)
        if not self.weights:
            return shuffled
        chosen, first = [], 0
        for file, (count, size) in enumerate(zip(self.counts, self.sizes, strict=True)):
            # a file is an endless stream of its permutations, of which each epoch takes the next piece
            places = np.arange(number * size, (number + 1) * size)
            rounds = {int(i): np.random.default_rng((seed, 2, file, int(i))).permutation(count) for i in np.unique(places // max(count, 1))}
            chosen += [first + int(rounds[int(place) // count][int(place) % count]) for place in places]
            first += count
        return np.asarray(chosen, dtype=np.int64)[shuffled]
