"""Several systems' saved outputs against the first by sacrebleu's paired tests: its numbers, p-values and signatures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmkit.cli import console
from llmkit.errors import InputError, UsageError
from llmkit.metrics.base import Example
from llmkit.metrics.overlap import OverlapSettings, sacrebleu_options
from llmkit.metrics.statistics import sacrebleu_metric

NAMES = ("bleu", "chrf", "ter")


def paired(
    systems: Sequence[tuple[str, Sequence[Example]]],
    metrics: Sequence[str],
    settings: OverlapSettings,
    test: str,
    samples: int,
    *,
    as_json: bool,
) -> None:
    """Prints each system's scores and the p-values against the first.

    test: 'bs' (paired bootstrap) or 'ar' (approximate randomisation); samples: resamples or trials, 0 for sacrebleu's
    default. Raises UsageError for metrics that sacrebleu does not have, InputError for systems of different length.
    """
    from sacrebleu.significance import PairedTest

    if len(systems) < 2:
        raise UsageError(f"--paired-{test} compares systems", hint="give two -p FILE or more; the first is the baseline")
    if other := next((name for name in metrics if name not in NAMES), None):
        raise UsageError(f"--paired-{test} is for {', '.join(NAMES)}, not {other}", hint="--baseline compares any metric")
    references = [example.references for example in systems[0][1]]
    for name, examples in systems[1:]:
        if len(examples) != len(references):
            raise InputError(f"{len(examples):,} lines where {systems[0][0]} has {len(references):,}", path=name)
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(max(map(len, references)))]
    objects = {name: sacrebleu_metric(name, sacrebleu_options(name, settings)) for name in metrics}
    run = PairedTest(
        [(name, [e.prediction for e in examples]) for name, examples in systems], objects, streams, test_type=test, n_samples=samples
    )
    # sacrebleu calls the columns by the full name of the score, in the order of the metrics
    signatures, columns = run()
    titles = dict(zip(metrics, signatures, strict=True))
    out = []
    for place, (name, _) in enumerate(systems):
        found = {metric: columns[title][place] for metric, title in titles.items()}
        row: dict[str, Any] = {"system": name, "scores": {m: float(r.score) for m, r in found.items()}}
        row["intervals"] = {m: [float(r.mean - r.ci), float(r.mean + r.ci)] for m, r in found.items() if r.ci is not None}
        row["p_values"] = {m: float(r.p_value) for m, r in found.items() if r.p_value is not None}
        out.append(row)
    signs = {metric: str(signatures[title]) for metric, title in titles.items()}
    if as_json:
        console.write(json.dumps({"systems": out, "signatures": signs, "rows": len(references)}, ensure_ascii=False) + "\n")
        return
    _table(out, signs)


def _table(rows: Sequence[dict[str, Any]], signatures: dict[str, str]) -> None:
    lines = []
    for row in rows:
        for metric, score in row["scores"].items():
            low, high = row["intervals"].get(metric, (None, None))
            p_value = row["p_values"].get(metric)
            interval = "" if low is None else f"{low:.2f} to {high:.2f}"
            lines.append((row["system"], metric, f"{score:.2f}", interval, "" if p_value is None else f"{p_value:.4f}", signatures[metric]))
    console.table(("system", "metric", "score", "95% interval", "p", "signature"), lines, right=("score", "p"))
