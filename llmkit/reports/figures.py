"""Numbers, names and facts of a run as people read them, the same in every report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llmkit.errors import counted
from llmkit.metrics.base import Result, Score
from llmkit.version import __version__


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
    """Four decimals for small numbers, two for others; a power of ten from a million millions. scale: the number whose size decides."""
    if 1e12 <= abs(value) < math.inf:
        return f"{value:.3e}"
    return f"{value:.4f}" if abs(scale) < 10 else f"{value:,.2f}"


def direction(score: Score) -> str:
    """An arrow to where it is better."""
    return "↑" if score.higher_is_better else "↓"


def way(score: Score) -> str:
    """'↑ higher' or '↓ lower': where it is better."""
    return f"{direction(score)} {'higher' if score.higher_is_better else 'lower'}"


def title(result: Result) -> str:
    """What a result is of, in a line: the model, and the files."""
    about = result.about
    files = about.get("suite") or about.get("input") or ", ".join(map(str, about.get("inputs", ())))
    if "predictions" in about:
        files = f"{about['predictions']} against {', '.join(map(str, about.get('references', ())))}"
    model = about.get("model") or _of_parts(result, "model")
    return f"{model} on {files}" if model and files else str(model or files or "llmkit evaluate")


def facts(result: Result) -> list[tuple[str, str]]:
    """What a report says of its run: names and values for people, those that are known."""
    about = result.about
    pairs: list[tuple[str, object]] = [
        ("Model", about.get("model") or _of_parts(result, "model")), ("Weights", _hash(about.get("weights_sha256"))),
        ("Adapter", about.get("adapter")),
        ("Compared with", about["against"].get("model") if isinstance(about.get("against"), dict) else None),
        ("Runs on", ", ".join(str(about[n]) for n in ("engine", "device", "dtype", "quantize") if about.get(n))),
        ("Suite", _file(about, "suite")), ("Input", _file(about, "input")),
        ("Inputs", ", ".join(map(str, about.get("inputs", ()))) or _of_parts(result, "input")),
        ("Predictions", _file(about, "predictions")), ("References", _references(about)), ("Baseline", result.baseline),
        ("Size", ", ".join([counted(result.rows, "row"), *(counted(n, of.removesuffix("s"), of) for of, n in result.counts.items())])),
        ("Command", result.command), ("Date", _date(result)), ("Version", f"llmkit {__version__}"),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in pairs if value]


def _of_parts(result: Result, name: str) -> str:
    """What the results of a suite's sets say under `name`, each value once."""
    return ", ".join(dict.fromkeys(str(part.about[name]) for part in result.parts.values() if part.about.get(name)))


def _file(about: Mapping[str, Any], name: str) -> str:
    known = about.get(name)
    return "" if known is None else _with_hash(str(known), about.get(f"{name}_sha256"))


def _references(about: Mapping[str, Any]) -> str:
    files = about.get("references", ())
    return ", ".join(_with_hash(str(name), own) for name, own in zip(files, about.get("references_sha256", ()), strict=False))


def _with_hash(name: str, sha256: object) -> str:
    return f"{name} ({_hash(sha256)})" if sha256 else name


def _hash(sha256: object) -> str:
    return f"SHA-256 {str(sha256)[:12]}" if sha256 else ""


def _date(result: Result) -> str:
    if not result.started:
        return ""
    return f"{result.started.replace('T', ' ').replace('+00:00', ' UTC')}, {result.seconds:.1f} s"
