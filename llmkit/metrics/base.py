"""A number never travels without its signature: `Score`, and the `Result` that a command reports.

Knows numbers and names; not how any of them is computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
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
    blocks: of a single document, the units of its windows; its interval and its comparisons are made of them.
    """

    name: str
    value: float
    signature: str
    interval: tuple[float, float] | None = None
    higher_is_better: bool = True
    units: Numbers | None = None
    statistic: Statistic | None = None
    blocks: Numbers | None = None


@dataclass(frozen=True)
class Gate:
    """A condition that was checked. message: the outcome, for people."""

    condition: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Example:
    """One scored row. id: the row's own, or its number from 1; digest: see `row_digest`."""

    id: str
    digest: str
    source: str = ""
    prediction: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The result of an evaluation.

    counts: whole numbers worth knowing (tokens, documents). examples: the rows that were scored, for pairing and reports.
    started: when the run began (ISO 8601, UTC); seconds: how long it took. command: the command line that made it, as it was typed.
    baseline: the file of the result that it was compared with. parts: the results that it is made of, by name: of several
    files, of the sets of a suite.
    """

    scores: tuple[Score, ...]
    rows: int
    counts: Mapping[str, int] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    started: str = ""
    seconds: float = 0.0
    command: str = ""
    baseline: str = ""
    parts: Mapping[str, Result] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`: made for jq. Infinite and undefined numbers are the strings 'inf' and 'nan', for JSON has none."""
        return {
            "scores": {s.name: json_number(s.value) for s in self.scores},
            "intervals": {s.name: [json_number(x) for x in s.interval] for s in self.scores if s.interval is not None},
            "signatures": {s.name: s.signature for s in self.scores},
            "rows": self.rows,
            "counts": dict(self.counts),
            "gates": [{"condition": g.condition, "passed": g.passed, "message": g.message} for g in self.gates],
            "about": dict(self.about),
        } | ({"parts": {name: part.as_json() for name, part in self.parts.items()}} if self.parts else {})


def row_digest(scored: Sequence[str], before: object = None) -> str:
    """A short hash of a row, by which two runs know that they scored the same rows.

    scored: all that entered the score (a text, the references, the choices and the right one). before: what the model read
    before it (a prompt, a source, messages), as far as it is known: texts, lists and dictionaries.
    """
    if before is None:
        return digest(*scored)
    return f"{digest(*scored)}-{digest(json.dumps(before, ensure_ascii=False, sort_keys=True))}"


def same_row(one: str, other: str) -> bool:
    """Whether two digests are of the same row: what was scored is the same, and what stood before it where both know it."""
    (scored, _, before), (scored_too, _, before_too) = one.partition("-"), other.partition("-")
    return scored == scored_too and (not before or not before_too or before == before_too)


def digest(*texts: str) -> str:
    """A short hash of texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def json_number(value: float) -> float | str:
    """`value` as JSON can hold it: 'inf', '-inf' or 'nan' for what is no number there."""
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def signature(**parts: object) -> str:
    """`key:value|...` in the order given; True and False as yes and no."""

    def text(value: object) -> str:
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

    return "|".join(f"{name}:{text(value)}" for name, value in parts.items())
