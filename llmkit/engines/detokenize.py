"""Token ids become text: piece by piece as whole characters, cut before stop strings.

Knows a tokenizer's `decode`; not models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Tokens of context that decide how the next one is written (leading spaces of SentencePiece, bytes of a character).
_CONTEXT = 8


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of `ids` without special tokens, its spaces as they are."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def decode_piece(tokenizer: Any, token: int) -> str:
    """One token as text, a special token by its name."""
    return str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def continuation(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text that `ids` add after the tokens `before`."""
    context = list(before[-_CONTEXT:])
    prefix = decode(tokenizer, context)
    whole = decode(tokenizer, [*context, *ids])
    # A prompt that ends inside a character changes its own text when the rest arrives.
    return whole[len(prefix) :] if whole.startswith(prefix) else decode(tokenizer, ids)


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins."""
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(places) if places else None


class TextStream:
    """Turns tokens into text that may be shown: whole characters, and nothing that could begin a stop string."""

    def __init__(self, tokenizer: Any, before: Sequence[int], stops: Sequence[str]) -> None:
        self._tokenizer, self._before, self._stops = tokenizer, list(before[-_CONTEXT:]), tuple(stops)
        self._ids: list[int] = []
        self._shown = self._settled = 0
        self._text = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """The text that has become certain."""
        if self.stopped:
            return ""
        self._ids.extend(ids)
        text = self._text + self._pending()
        if text.endswith("\ufffd"):
            return ""
        if len(self._ids) - self._settled > 32:  # keeps each step's work constant
            self._text, self._settled = text, len(self._ids)
        return self._show(text, final=False)

    def finish(self) -> str:
        """The rest, at the end of the answer."""
        return "" if self.stopped else self._show(self._text + self._pending(), final=True)

    def _pending(self) -> str:
        before = (self._before + self._ids[: self._settled])[-_CONTEXT:] if self._settled else self._before
        return continuation(self._tokenizer, before, self._ids[self._settled :])

    def _show(self, text: str, *, final: bool) -> str:
        stop = find_stop(text, self._stops)
        if stop is not None:
            self.stopped = True
            end = stop
        else:
            end = len(text) if final else len(text) - self._held_back(text)
        piece = text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece

    def _held_back(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max(map(len, self._stops), default=0)
        for size in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
