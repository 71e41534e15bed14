"""Report formats by the ending of the file's name.

An installed package adds its own by the entry point group `llmkit.reports`: the ending without its dot, and a function from a
`Result` to text.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from llmkit.errors import UnavailableError, UsageError, one_line
from llmkit.metrics.base import Result

GROUP = "llmkit.reports"
Render = Callable[[Result], str]


def _html(result: Result) -> str:
    from llmkit.reports.page import to_html

    return to_html(result)


def _json(result: Result) -> str:
    from llmkit.reports.results import to_json

    return to_json(result)


def _junit(result: Result) -> str:
    from llmkit.reports.junit import to_junit

    return to_junit(result)


def _markdown(result: Result) -> str:
    from llmkit.reports.markdown import to_markdown

    return to_markdown(result)


_OURS: dict[str, Render] = {".json": _json, ".md": _markdown, ".xml": _junit, ".html": _html}


@cache
def _added() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {f".{entry.name.lower()}": entry for entry in importlib.metadata.entry_points(group=GROUP)}


def endings() -> tuple[str, ...]:
    """All endings: ours, then those of installed packages."""
    return (*_OURS, *(ending for ending in _added() if ending not in _OURS))


def check(path: str) -> None:
    """Refuses a report that could not be written, before anything is computed. Raises UsageError or UnavailableError."""
    folder = Path(path).absolute().parent
    if Path(path).suffix.lower() not in endings():
        raise UsageError(f"--report {path}: unknown ending", hint=f"one of {', '.join(endings())}")
    if not folder.is_dir() or Path(path).is_dir():
        raise UsageError(f"--report {path}: there is no folder {folder}" if not folder.is_dir() else f"--report {path} is a folder")
    _format(Path(path).suffix.lower())


def render(path: str, result: Result) -> str:
    """The report's text, in the format of the path's ending."""
    return _format(Path(path).suffix.lower())(result)


def _format(ending: str) -> Render:
    if ending in _OURS:
        return _OURS[ending]
    entry = _added()[ending]
    try:
        loaded: Render = entry.load()
    except Exception as exc:  # the package's own code
        raise UnavailableError(
            f"the report format {ending} of {entry.value} can't be loaded: {type(exc).__name__}: {one_line(exc)}"
        ) from exc
    if not callable(loaded):
        raise UnavailableError(f"the report format {ending}: {entry.value} is not a function")
    return loaded
