"""A number never travels without its signature: `Score`, and the `Result` that a command reports.

Knows numbers and names; not how any of them is computed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmkit.metrics.statistics import Numbers, Statistic


@dataclass(frozen=True)
class Score:
    """One number.

    signature: everything that decides it, in the manner of sacreBLEU (`key:value|...`); two scores may be compared when
    their signatures are equal. interval: a 95% confidence interval. higher_is_better: the direction of quality.
    units and statistic: what the score was made from, a row of the test set each (see `llmkit.metrics.statistics`).
    """

    name: str
    value: float
    signature: str
    interval: tuple[float, float] | None = None
    higher_is_better: bool = True
    units: Numbers | None = None
    statistic: Statistic | None = None


@dataclass(frozen=True)
class Gate:
    """A condition that was checked. message: what was found, for people."""

    condition: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Example:
    """One scored row. id: the row's own, or its number from 1; digest: a short hash of what it should have been."""

    id: str
    digest: str
    source: str = ""
    prediction: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    counts: whole numbers worth knowing (tokens, documents). examples: the rows that were scored, for pairing and reports.
    """

    scores: tuple[Score, ...]
    rows: int
    counts: Mapping[str, int] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`: made for jq. Infinite and undefined numbers are the texts 'inf' and 'nan', for JSON has none."""
        return {
            "scores": {s.name: json_number(s.value) for s in self.scores},
            "intervals": {s.name: [json_number(x) for x in s.interval] for s in self.scores if s.interval is not None},
            "signatures": {s.name: s.signature for s in self.scores},
            "rows": self.rows,
            "counts": dict(self.counts),
            "gates": [{"condition": g.condition, "passed": g.passed, "message": g.message} for g in self.gates],
            "about": dict(self.about),
        }


def digest(*texts: str) -> str:
    """A short hash of what a row should have been, by which two runs know that they scored the same rows."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def json_number(value: float) -> float | str:
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def signature(**parts: object) -> str:
    """`key:value|...` in the order given; True and False as yes and no."""

    def text(value: object) -> str:
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

    return "|".join(f"{name}:{text(value)}" for name, value in parts.items())
