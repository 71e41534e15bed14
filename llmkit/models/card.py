"""A model's card: the front matter and the text of its README.md.

A card is for people to read; whatever is in it, no command stops because of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError
from llmkit.models.small_files import read_bytes

#: Bytes of a card; characters of its front matter that are parsed, and of its text that are shown; levels of the front matter.
_MAX_CARD = 4_000_000
_MAX_FRONT = 100_000
_MAX_TEXT = 4000
_MAX_DEPTH = 20
_UNREADABLE = {"license": "(the card's front matter is not YAML)"}


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """The front matter, and the text up to the samples; empty where there is no card.

    Of the front matter only short texts and lists of them are kept.
    """
    try:
        text = read_bytes(folder / "README.md", _MAX_CARD).decode("utf-8", "replace").replace("\r\n", "\n")
    except (ModelError, FileNotFoundError):
        return {}, ""
    front: dict[str, Any] = {}
    end = text.find("\n---\n", 3)
    if text.startswith("---\n") and end > 0:
        head, text = text[4:end], text[end + 5 :]
        front = _front(head) if len(head) <= _MAX_FRONT else dict(_UNREADABLE)
    return front, text.split("\n## Samples")[0].strip()[:_MAX_TEXT]


def _front(head: str) -> dict[str, Any]:
    """The front matter's entries that are short texts or lists of them. Every value is taken as it is written."""
    import yaml

    try:
        if not _plain(yaml.parse(head, Loader=yaml.BaseLoader)):
            return dict(_UNREADABLE)
        parsed = yaml.load(head, Loader=yaml.BaseLoader)  # noqa: S506 - texts, lists and mappings only
    except (yaml.YAMLError, ValueError, RecursionError):
        return dict(_UNREADABLE)
    return {name: value for name, value in parsed.items() if _short(value)} if isinstance(parsed, dict) else {}


def _plain(events: Iterable[Any]) -> bool:
    """Whether nothing is repeated by an alias or nested deep. Reads no further than to the first such thing."""
    import yaml

    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
            return False
    return True


def _short(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 1000 and all(isinstance(item, str) and len(item) <= 200 for item in value)
    return isinstance(value, str) and len(value) <= 200
