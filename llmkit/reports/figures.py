"""Numbers as people read them, the same in every report."""

from __future__ import annotations

from llmkit.metrics.base import Result, Score


def named_scores(result: Result) -> list[tuple[str, Score]]:
    """The scores of a result and of its parts: those of a part as PART.SCORE, where the result does not have them under that name."""
    own = [(score.name, score) for score in result.scores]
    known = {name for name, _ in own}
    inner = [(f"{part}.{name}", score) for part, each in result.parts.items() for name, score in named_scores(each)]
    return own + [(name, score) for name, score in inner if name not in known]


def number_text(score: Score) -> str:
    """A score as reports and tables show it."""
    return figure(score.value, score.value)


def interval_text(score: Score) -> str:
    """A score's interval as reports and tables show it; empty where there is none."""
    if score.interval is None:
        return ""
    low, high = (figure(x, score.value) for x in score.interval)
    return f"{low} to {high}"


def figure(value: float, scale: float) -> str:
    """Four decimals for small numbers, two for others. scale: the number whose size decides."""
    return f"{value:.4f}" if abs(scale) < 10 else f"{value:,.2f}"
