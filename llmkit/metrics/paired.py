"""Several systems' outputs against the first by sacrebleu's paired tests: its numbers, p-values and signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.errors import InputError, UsageError, counted
from llmkit.metrics.base import Example
from llmkit.metrics.overlap import OverlapSettings, sacrebleu_options
from llmkit.metrics.statistics import SACREBLEU, reference_streams, sacrebleu_metric


@dataclass(frozen=True)
class System:
    """One system: its scores by metric, and against the first system its intervals and p-values."""

    name: str
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    p_values: Mapping[str, float]


@dataclass(frozen=True)
class PairedResult:
    """All systems, the first of which is the baseline; sacrebleu's signature of each metric; rows of each system."""

    systems: tuple[System, ...]
    signatures: Mapping[str, str]
    rows: int

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        systems = [
            {
                "system": system.name,
                "scores": dict(system.scores),
                "intervals": {name: list(ends) for name, ends in system.intervals.items()},
                "p_values": dict(system.p_values),
            }
            for system in self.systems
        ]
        return {"systems": systems, "signatures": dict(self.signatures), "rows": self.rows}


def check_paired(metrics: Sequence[str], test: str) -> None:
    """Raises UsageError for metrics that sacrebleu does not have."""
    if other := next((name for name in metrics if name not in SACREBLEU), None):
        raise UsageError(f"`paired_{test}` applies to {', '.join(SACREBLEU)}, not to {other}", hint="`baseline` compares any metric")


def paired(
    systems: Sequence[tuple[str, Sequence[Example]]], metrics: Sequence[str], settings: OverlapSettings, test: str, samples: int
) -> PairedResult:
    """Each system's scores and the p-values against the first.

    test: 'bs' (sacrebleu's paired bootstrap) or 'ar' (approximate randomization); samples: resamples or trials, 0 for
    sacrebleu's default. Of two equal scores there is no p-value: sacrebleu's is 1 / (samples + 1)
    for them, whatever the systems. Raises UsageError for one
    system or a metric that sacrebleu does not have, InputError for systems of different length.
    """
    from sacrebleu.significance import PairedTest

    check_paired(metrics, test)
    if len(systems) < 2:
        raise UsageError(f"`paired_{test}` needs at least two systems", hint="give at least two -p FILE; the first is the baseline")
    references = [example.references for example in systems[0][1]]
    for name, examples in systems[1:]:
        if len(examples) != len(references):
            raise InputError(f"{counted(len(examples), 'line')} where {systems[0][0]} has {len(references):,}", path=name)
    streams = reference_streams(references)
    objects = {name: sacrebleu_metric(name, sacrebleu_options(name, settings)) for name in metrics}
    run = PairedTest(
        [(name, [e.prediction for e in examples]) for name, examples in systems], objects, streams, test_type=test, n_samples=samples
    )
    # sacrebleu calls the columns by the full name of the score, in the order of the metrics
    signatures, columns = run()
    titles = dict(zip(metrics, signatures, strict=True))
    out: list[System] = []
    for place, (name, _) in enumerate(systems):
        row = {metric: columns[title][place] for metric, title in titles.items()}
        scores = {m: float(r.score) for m, r in row.items()}
        intervals = {m: (float(r.mean - r.ci), float(r.mean + r.ci)) for m, r in row.items() if r.ci is not None}
        p_values = {m: float(r.p_value) for m, r in row.items() if r.p_value is not None and scores[m] != out[0].scores[m]}
        out.append(System(name, scores, intervals, p_values))
    return PairedResult(tuple(out), {metric: str(signatures[title]) for metric, title in titles.items()}, len(references))
