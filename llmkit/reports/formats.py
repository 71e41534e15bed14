"""Report formats by the ending of the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmkit.errors import UsageError
from llmkit.metrics.base import Result


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


FORMATS: dict[str, Callable[[Result], str]] = {".json": _json, ".md": _markdown, ".xml": _junit, ".html": _html}


def check(path: str) -> None:
    """Refuses a report that could not be written, before anything is computed. Raises UsageError."""
    folder = Path(path).absolute().parent
    if Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"--report {path}: unknown ending", hint=f"one of {', '.join(FORMATS)}")
    if not folder.is_dir() or Path(path).is_dir():
        raise UsageError(f"--report {path}: there is no folder {folder}" if not folder.is_dir() else f"--report {path} is a folder")


def render(path: str, result: Result) -> str:
    return FORMATS[Path(path).suffix.lower()](result)
