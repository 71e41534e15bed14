"""A number never travels without its signature: `Score`, and the `Result` that a command reports.

Knows numbers and names; not how any of them is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """One number.

    signature: everything that decides it, in the manner of sacreBLEU (`key:value|...`); two scores may be compared when
    their signatures are equal. interval: a 95% confidence interval. higher_is_better: the direction of quality.
    """

    name: str
    value: float
    signature: str
    interval: tuple[float, float] | None = None
    higher_is_better: bool = True


@dataclass(frozen=True)
class Gate:
    """A condition that was checked. message: what was found, for people."""

    condition: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Result:
    """What an evaluation found. counts: whole numbers worth knowing (tokens, documents); per_row: a score a row, by metric."""

    scores: tuple[Score, ...]
    rows: int
    counts: Mapping[str, int] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    per_row: Mapping[str, Any] = field(default_factory=dict)

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


def json_number(value: float) -> float | str:
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def signature(**parts: object) -> str:
    """`key:value|...` in the order given; True and False as yes and no."""

    def text(value: object) -> str:
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

    return "|".join(f"{name}:{text(value)}" for name, value in parts.items())
