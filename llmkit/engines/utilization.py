"""What an engine's model has done, and how near that came to the machine's limit (see `llmkit.models.speed`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmkit.models import speed
from llmkit.models.speed import Cost


@dataclass
class WorkCounters:
    """Counted since an engine was opened. steps: of decoding, each of which reads all weights, for however many rows.

    positions and sources: tokens that went through decoder and encoder, padding left out. pairs: of a token and one that it looks at,
    itself or one before it, in models without an encoder. seconds: in the model.
    """

    steps: int = 0
    positions: int = 0
    sources: int = 0
    pairs: int = 0
    seconds: float = 0.0
    _inside: int = 0  # blocks of `timed` that are open, in threads that take turns
    _since: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """The time inside the block counts, once where several threads are inside."""
        if not self._inside:
            self._since = time.monotonic()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self.seconds += time.monotonic() - self._since

    def answered(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int] | None], *, reads: bool, beams: int = 1) -> None:
        """Counts one call that answered `prompts` together. reads: prompts went through an encoder."""
        lengths = [len(answer or ()) for answer in answers]
        self.steps += max(lengths, default=0)
        self.positions += sum(lengths) * beams
        if reads:
            self.sources += sum(map(len, prompts))
        else:
            self.positions += sum(map(len, prompts))
            each = len(lengths) // max(1, len(prompts))
            for i, prompt in enumerate(prompts):
                read = max(lengths[i * each : (i + 1) * each], default=1) - 1  # the last token is not
                before = _pairs(len(prompt))
                self.pairs += before + beams * (_pairs(len(prompt) + max(0, read)) - before)

    def scored(self, sequences: Sequence[Sequence[int]], sources: Sequence[Sequence[int]] | None, spared: Sequence[int] = ()) -> None:
        """Counts sequences that were scored. spared: lengths of their beginnings that were not computed again."""
        self.positions += sum(map(len, sequences)) - sum(spared)
        self.sources += sum(map(len, sources or ()))
        if sources is None:
            self.pairs += sum(_pairs(len(sequence) - 1) for sequence in sequences) - sum(map(_pairs, spared))


def _pairs(tokens: int) -> int:
    """Pairs of so many tokens, each with itself and with those before it."""
    return tokens * (tokens + 1) // 2


def measured(engine: Any) -> dict[str, Any]:
    """For a run's record: `limit`, where the engine counts its work and this machine's speed is remembered; else nothing.

    Of an engine whose model is in other processes, what it says of them (see `llmkit.engines.elsewhere`).

    share: of the time in the model, how much the machine needs at least. by: what bounds it, 'memory' or 'arithmetic'.
    """
    if (elsewhere := getattr(engine, "measured", None)) is not None:
        return dict(elsewhere())
    counters: WorkCounters | None = getattr(engine, "counters", None)
    cost: Cost | None = getattr(engine, "cost", None)
    if counters is None or cost is None or not counters.seconds:
        return {}
    if (known := speed.remembered(engine.identity.device or "cpu")) is None:
        return {}
    least = speed.limit(cost, known, steps=counters.steps, positions=counters.positions, sources=counters.sources, pairs=counters.pairs)
    if not least.seconds:
        return {}
    rate = None if cost.dtype is None else known.rates.get(cost.dtype)
    return {
        "limit": {
            "share": round(least.seconds / counters.seconds, 3),
            "by": least.by,
            "model_seconds": round(counters.seconds, 3),
            "bytes_per_second": round(known.bandwidth),
            "operations_per_second": None if rate is None else round(rate),
        }
    }


def describe(engine: Any) -> str | None:
    """The same in a line; None where nothing is known."""
    if not (limit := measured(engine).get("limit")):
        return None
    what = "memory bandwidth" if limit["by"] == "memory" else "matrix products"
    cached = "; the weights stay in the processor's cache" if limit["by"] == "memory" and limit["share"] > 1 else ""
    share, seconds = 100 * limit["share"], limit["model_seconds"]
    return f"{share:.0f}% of this machine's limit ({what}), {seconds:.1f} s in the model{cached}"
