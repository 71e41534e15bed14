"""How often the rows of each training file are seen.

Knows counts and weights; not rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

#: Examples that the weights of the files may make of an epoch: their order takes 24 bytes each.
_MOST = 100_000_000


@dataclass(frozen=True)
class FileMixture:
    """The examples of several files, one file after another. counts: of each file.

    weights: how often an epoch sees each example of a file, empty for once. With 2 it sees each twice; with 0.5 half of them, and the
    next epoch the other half. Raises UsageError for weights that make an epoch too long.
    """

    counts: tuple[int, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.weights and self.size > _MOST:
            raise UsageError(
                f"the weights of the training files make an epoch of {self.size:,} rows; at most {_MOST:,} are possible",
                hint="a weight is how often each row is seen in an epoch; give the other files smaller weights instead",
            )

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
        chosen, filled, first = np.empty(self.size, dtype=np.int64), 0, 0
        for file, (count, size) in enumerate(zip(self.counts, self.sizes, strict=True)):
            # a file is an endless stream of its permutations, of which each epoch takes the next piece
            place, end = number * size, (number + 1) * size
            while place < end:
                again, begin = divmod(place, count)
                stop = min(count, begin + end - place)
                piece = np.random.default_rng((seed, 2, file, again)).permutation(count)[begin:stop]
                chosen[filled : filled + len(piece)] = first + piece
                filled, place = filled + len(piece), place + len(piece)
            first += count
        return chosen[shuffled]
