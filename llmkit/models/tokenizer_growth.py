"""How much longer a tokenizer makes a text before it cuts it, by its own description: a file of a few lines can ask for terabytes.

Knows the parts of tokenizer.json that the tokenizers library runs; not how it runs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Characters for each one of a text or of a token, copies of a text in the place of one, and tokens around it. Known ones stay far below.
_MOST_GROWTH, _MOST_TIMES, _MOST_PIECES = 16.0, 2, 100
_PARTS = ("normalizer", "decoder")


def excess(backend: Any) -> str | None:
    """A phrase of what would grow beyond any use, None for a tokenizer that is like others. backend: a `tokenizers.Tokenizer`."""
    for name in _PARTS:
        if (growth := _growth(_described(getattr(backend, name, None)))) > _MOST_GROWTH:
            return f"its {name} makes a text up to {growth:.3g} times as long; at most {_MOST_GROWTH:g} times is read"
    after = _described(getattr(backend, "post_processor", None))
    for pieces in [each["single"] for each in (after, *after.get("processors", ())) if isinstance(each.get("single"), list)]:
        times = sum("Sequence" in piece for piece in pieces if isinstance(piece, dict))
        if times > _MOST_TIMES or len(pieces) > _MOST_PIECES:
            return f"its post-processor puts {times:,} copies of a text, and {len(pieces) - times:,} other tokens, in the place of one"
    return None


def _described(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json has it."""
    try:
        content = json.loads(part.__getstate__())
    except (AttributeError, TypeError, ValueError):  # there is none, or it is of a kind that can't be described
        return {}
    return content if isinstance(content, dict) else {}


def _growth(part: Mapping[str, Any]) -> float:
    """The largest number of characters that the part makes of one; of several the product."""
    growth = 1.0
    for inner in (*part.get("normalizers", ()), *part.get("decoders", ())):
        growth *= _growth(inner)
    content = part.get("content")
    if part.get("type") == "Replace" and isinstance(content, str):
        pattern = part.get("pattern", {})
        text = pattern.get("String") if isinstance(pattern, dict) else None
        # an expression may match nothing between any two characters
        growth *= len(content) / len(text) if text and len(content) > len(text) else 1.0 if text else 1.0 + len(content)
    return min(growth, 1e300)
