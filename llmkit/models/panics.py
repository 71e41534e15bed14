"""Panics of the tokenizers library, which is written in Rust, as errors.

Python sees them as `pyo3_runtime.PanicException`, a BaseException that no `except Exception` catches; the class can't be
imported. The library also prints where it panicked; that goes to stderr, and there is no other way to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llmkit.errors import LlmkitError


@contextmanager
def panics(error: Callable[[str], LlmkitError]) -> Iterator[None]:
    """Raises `error` of the reason for a panic in the block."""
    try:
        yield
    except BaseException as exc:
        if not is_panic(exc):
            raise
        raise error(" ".join(str(exc).split())[:200]) from exc


def is_panic(exc: BaseException) -> bool:
    """Whether `exc` is a panic of a Rust library (PyO3's PanicException is no Exception and has no public name)."""
    return type(exc).__name__ == "PanicException"
