"""Tables of hints, turned around: they are written by hint, and read by name."""

from __future__ import annotations

from collections.abc import Mapping


def by_name(hints: Mapping[str, str]) -> dict[str, str]:
    """The hint of each name. hints: by a hint, the names that it answers."""
    return {name: hint for hint, names in hints.items() for name in names.split()}
