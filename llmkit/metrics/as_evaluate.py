"""Our metrics as those of the library evaluate, for programs that speak its interface."""

from __future__ import annotations

import math
from typing import Any

from llmkit.errors import UsageError
from llmkit.metrics.registry import TextSettings, chosen, compute


def as_metric(name: str) -> Any:
    """One of our metrics as an `evaluate.Metric`: `as_metric("bleu").compute(predictions=[...], references=[...])`.

    references: a text or a list of texts each. compute gives {name: value, "signature": ...}. Raises UsageError for an
    unknown name, and for one that stands for several metrics, as 'rouge'.
    """
    import datasets
    import evaluate

    names = chosen(name)
    if len(names) > 1:
        raise UsageError(f"'{name}' is several metrics", hint=f"one of {', '.join(names)}")
    metric = names[0]

    class Ours(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            text = datasets.Value("string")
            features = [
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ]
            return evaluate.MetricInfo(description=f"{metric} as llmkit computes it", citation="", inputs_description="", features=features)

        def _compute(self, predictions: list[str], references: list[Any]) -> dict[str, Any]:
            expected = [[r] if isinstance(r, str) else list(r) for r in references]
            scores = compute(metric, predictions, expected, TextSettings())
            values = {score.name: score.value if math.isfinite(score.value) else None for score in scores}
            return values | {"signature": scores[0].signature}  # a module's scores share one

    return Ours()
