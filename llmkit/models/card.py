"""A model's card: the front matter and the text of its README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """The front matter, and the text up to the samples; empty where there is no card."""
    import yaml

    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}, ""
    front: dict[str, Any] = {}
    if text.startswith("---\n") and "\n---\n" in text[4:]:
        head, _, text = text[4:].partition("\n---\n")
        try:
            parsed = yaml.safe_load(head)
            front = parsed if isinstance(parsed, dict) else {}
        except yaml.YAMLError:
            front = {"license": "(the card's front matter is not YAML)"}
    return front, text.split("\n## Samples")[0].strip()[:4000]
