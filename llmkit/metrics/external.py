"""Metrics of the library evaluate that we don't have.

A metric module is Python code that runs. One from this machine's own files is run when it is named; one from a hub only
with --trust-remote-code.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from numbers import Real  # numpy's numbers as well
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, UnavailableError, UsageError, one_line
from llmkit.metrics.base import Score, signature


def is_local(name: str) -> bool:
    """Whether `name` is a metric module on this machine: a .py file, or a folder that holds one of its own name."""
    path = Path(name)
    return (path.suffix == ".py" and path.is_file()) or (path / f"{path.name}.py").is_file()


def external(name: str, predictions: Sequence[str], references: Sequence[Sequence[str]], *, trust_remote_code: bool) -> tuple[Score, ...]:
    """The numbers that a metric module computes, named after the module and their keys.

    Raises UsageError for a hub module without consent, UnavailableError for one that is not available, InputError for
    texts that it refuses.
    """
    if not is_local(name) and not trust_remote_code:
        raise UsageError(
            f"`metrics`: there is no metric '{name}', and a metric module from a hub runs code on this machine",
            hint="read it, then add `trust_remote_code`; or name a module of your own by its path",
        )
    import evaluate

    try:
        module = evaluate.load(os.path.abspath(name) if is_local(name) else name)
    except Exception as exc:  # the module's own code and the library's many kinds
        raise UnavailableError(f"the metric module {name} can't be loaded: {_named(exc)}") from exc
    stem = Path(name).stem
    try:
        result = module.compute(predictions=list(predictions), references=_shaped(module, references))
    except Exception as exc:
        raise InputError(f"the metric module {name} cannot score these texts: {_named(exc)}") from exc
    sign = signature(module=stem, version=f"evaluate-{importlib.metadata.version('evaluate')}")
    found = {key: value for key, value in (result or {}).items() if type(value) is not bool and isinstance(value, Real)}
    if not found:
        raise InputError(f"the metric module {name} returned no number: {', '.join(map(str, result or {})) or 'nothing'}")
    return tuple(Score(key if key == stem else f"{stem}_{key}", float(value), sign) for key, value in found.items())


def _shaped(module: Any, references: Sequence[Sequence[str]]) -> list[Any]:
    """Lists of texts where the module takes several references, else one text per row."""
    features = module.features
    kinds = [f["references"] for f in (features if isinstance(features, list) else [features])]
    single = any(type(kind).__name__ == "Value" for kind in kinds)
    if single and all(len(refs) == 1 for refs in references):
        return [refs[0] for refs in references]
    return [list(refs) for refs in references]


def _named(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {one_line(exc)}"
