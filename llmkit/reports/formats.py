"""Report formats by the ending of the file's name. A new one is a module here and its line in `_OURS`.

An installed package adds its own by the entry point group `llmkit.reports`: the ending without its dot, and a function from a
`Result` to text.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from llmkit import files
from llmkit.errors import OutputError, UnavailableError, UsageError, one_line
from llmkit.metrics.base import Result

GROUP = "llmkit.reports"
Render = Callable[[Result], str]


#: Ending → the module here, the function in it that makes the report, and what every report of it has near its beginning.
_OURS = {
    ".json": ("results", "to_json", '{"scores": {'),
    ".md": ("markdown", "to_markdown", "\n| metric | score | 95% interval | signature |\n"),
    ".xml": ("junit", "to_junit", '<testsuite name="llmkit evaluate"'),
    ".html": ("page", "to_html", "· llmkit evaluate</title>"),
}
#: Bytes in which that stands: titles can be long.
_BEGINNING = 1 << 16


@cache
def _added() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {f".{entry.name.lower()}": entry for entry in importlib.metadata.entry_points(group=GROUP)}


def endings() -> tuple[str, ...]:
    """All endings: ours, then those of installed packages."""
    return (*_OURS, *(ending for ending in _added() if ending not in _OURS))


def check(path: str) -> None:
    """Refuses a report that could not be written, before anything is computed. Raises UsageError, OutputError or UnavailableError."""
    folder = Path(path).absolute().parent
    if Path(path).suffix.lower() not in endings():
        raise UsageError(f"`report` {path}: unknown ending", hint=f"one of {', '.join(endings())}")
    if not folder.is_dir() or Path(path).is_dir():
        raise UsageError(f"`report` {path}: there is no folder {folder}" if not folder.is_dir() else f"`report` {path} is a folder")
    if not _replaceable(Path(path)):
        raise OutputError(f"`report` {path}: exists, and is no report of llmkit", hint="name another file, or move it away")
    _format(Path(path).suffix.lower())
    files.check_free(files.part_of(Path(path)), "the unfinished report")


def render(path: str, result: Result) -> str:
    """The report's text, in the format of the path's ending."""
    return _format(Path(path).suffix.lower())(result)


def _replaceable(path: Path) -> bool:
    """Whether there is no file, an empty one, or an earlier report. One in a package's format is taken for a report."""
    if not path.exists() or path.suffix.lower() not in _OURS:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    return not beginning or _OURS[path.suffix.lower()][2].encode() in beginning


def _format(ending: str) -> Render:
    if ending in _OURS:
        module, function, _ = _OURS[ending]
        ours: Render = getattr(importlib.import_module(f"llmkit.reports.{module}"), function)
        return ours
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
