"""The library, imported without what only its asynchronous interface needs: asyncio is a sixteenth of a one-line command's time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

_LATER = "asyncio"


class _Later(MetaPathFinder):
    """Finds asyncio as a module that loads once something reads from it."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As in the standard library; None for every other module."""
        spec = PathFinder.find_spec(fullname, path) if fullname == _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def library() -> Any:
    """The module `ctranslate2`. Raises ImportError where it can't be loaded."""
    finder = _Later()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("ctranslate2")
    finally:
        sys.meta_path.remove(finder)
