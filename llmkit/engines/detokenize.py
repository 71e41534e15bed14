"""Token ids become text: piece by piece as whole characters, cut before what ends an answer.

Knows a tokenizer's `decode` and its special tokens; not models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

#: Tokens of context that decide how the next one is written (leading spaces of SentencePiece, bytes of a character).
CONTEXT = 8
#: What decoders write for bytes that are no whole character.
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class Stops:
    """What ends an answer beside its end token.

    texts: it ends before the first of them. tokens: ids at which it ends. special: names of all tokens that are not part of a
    text, by id; those that a text of `texts` names are looked for like text.
    """

    texts: tuple[str, ...] = ()
    tokens: frozenset[int] = frozenset()
    special: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def named(self) -> dict[int, str]:
        """The special tokens, by id, that a text of `texts` names: they are decoded, so that the text is found."""
        return {number: name for number, name in self.special.items() if any(name in text for text in self.texts)}

    def find(self, text: str) -> int | None:
        """Where the first stop begins in a text that was decoded with these stops."""
        return find_stop(text, self.texts)

    def visible(self, text: str) -> str:
        """The text without the names of special tokens that were decoded to be looked for."""
        for name in self.named.values():
            text = text.replace(name, "")
        return text


NO_STOPS = Stops()


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """The names, by id, of the tokens that `skip_special_tokens` leaves out of a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    added = backend.get_added_tokens_decoder() if backend is not None else getattr(tokenizer, "added_tokens_decoder", {})
    texts = {int(number): str(token.content) for number, token in added.items() if token.special}
    if backend is None:  # of a tokenizer in Python
        texts |= dict(zip(tokenizer.all_special_ids, map(str, tokenizer.all_special_tokens), strict=True))
    return texts


def decode(tokenizer: Any, ids: Sequence[int], stops: Stops = NO_STOPS) -> str:
    """The text of `ids` without special tokens but those that `stops` names, its spaces as they are."""
    named = stops.named
    if named:
        ids = [token for token in ids if token not in stops.special or token in named]
    return str(tokenizer.decode(list(ids), skip_special_tokens=not named, clean_up_tokenization_spaces=False))


def decode_piece(tokenizer: Any, token: int) -> str:
    """One token as text, a special token by its name."""
    return str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def continuation(tokenizer: Any, before: Sequence[int], ids: Sequence[int], stops: Stops = NO_STOPS) -> str:
    """The text that `ids` add after the tokens `before`, decoded with `stops`."""
    context = list(before[-CONTEXT:])
    prefix = decode(tokenizer, context, stops)
    whole = decode(tokenizer, [*context, *ids], stops)
    # A prompt that ends inside a character changes its own text when the rest arrives.
    return whole[len(prefix) :] if whole.startswith(prefix) else decode(tokenizer, ids, stops)


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins."""
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(places) if places else None


def whole_characters(text: str) -> str:
    """A text that was cut off after a token, without the beginning of a character at its end."""
    return text.rstrip(_INCOMPLETE)


class TextStream:
    """Turns tokens into text that may be shown: whole characters, and nothing that could begin a stop string."""

    def __init__(self, tokenizer: Any, before: Sequence[int], stops: Stops) -> None:
        self._tokenizer, self._before, self._stops = tokenizer, list(before[-CONTEXT:]), stops
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
        if text.endswith(_INCOMPLETE):
            return ""
        if len(self._ids) - self._settled > 32:  # keeps each step's work constant
            self._text, self._settled = text, len(self._ids)
        return self._show(text, final=False)

    def finish(self, *, cut: bool = False) -> str:
        """The rest, at the end of the answer. cut: its limit ended it, perhaps inside a character."""
        if self.stopped:
            return ""
        text = self._text + self._pending()
        return self._show(whole_characters(text) if cut and self._stops.find(text) is None else text, final=True)

    def _pending(self) -> str:
        before = (self._before + self._ids[: self._settled])[-CONTEXT:] if self._settled else self._before
        return continuation(self._tokenizer, before, self._ids[self._settled :], self._stops)

    def _show(self, text: str, *, final: bool) -> str:
        stop = self._stops.find(text)
        if stop is not None:
            self.stopped = True
            end = stop
        else:
            end = len(text) if final else len(text) - self._held_back(text)
        piece = text[self._shown : end]
        self._shown = max(self._shown, end)
        return self._stops.visible(piece)

    def _held_back(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        stops = self._stops.texts
        longest = max(map(len, stops), default=0)
        for size in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in stops):
                return size
        return 0
