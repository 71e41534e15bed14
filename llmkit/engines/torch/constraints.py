"""Answers that must be JSON of a schema or match a regular expression, by llguidance.

Knows grammars and a tokenizer; not models. llguidance bounds its own compile time, so a schema that explodes is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmkit.engines.decoding import Decoding
from llmkit.engines.grammar import grammar, unusable
from llmkit.errors import UsageError, one_line
from llmkit.rows.values import from_json


class Constraint:
    """A compiled grammar for one tokenizer. Raises UsageError for a schema or expression that can't be compiled or held.

    end: the id of the token that ends an answer; the grammar allows it where its text is complete.
    """

    def __init__(self, decoding: Decoding, tokenizer: Any, vocabulary: int, end: int | None) -> None:
        self.grammar = grammar(decoding)
        if end is None:
            raise UsageError("`json_schema` and `regex` need a model with an end token, and this one has none")
        import llguidance.hf

        self._llguidance = llguidance
        self._is_json = decoding.json_schema is not None
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=end)
        except ValueError as exc:
            raise unusable(str(exc)) from exc
        self.matcher().begin()  # compiles once, so that a bad grammar is found before any work

    def matcher(self) -> Matcher:
        """A follower of the grammar from its beginning, for one answer. Raises UsageError for a grammar that can't be compiled."""
        matcher = self._llguidance.LLMatcher(self._tokenizer, self.grammar, log_level=0)
        if matcher.is_error():
            raise unusable(matcher.get_error())
        return Matcher(matcher)

    def broken(self, tokens: Sequence[int], text: str, *, ended: bool) -> str | None:
        """Why an answer is not what the constraint asks for, None when it is.

        tokens: of the answer, without its end; ended: it is meant to be complete (else to be a beginning).
        """
        matcher = self._llguidance.LLMatcher(self._tokenizer, self.grammar, log_level=0)
        taken = matcher.try_consume_tokens(list(tokens)) if tokens else 0
        if taken < len(tokens) or (ended and not matcher.is_accepting()):
            why = matcher.get_error() if matcher.is_error() else "no allowed token can follow" if taken == len(tokens) else ""
            return "the answer ended before it was complete" + (f": {one_line(why)}" if why else "")
        if not (ended and self._is_json):
            return None
        try:
            from_json(text)
        except (ValueError, RecursionError) as exc:
            return f"the answer is not JSON: {one_line(exc)}"
        return None


class Matcher:
    """Follows one answer through the grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def begin(self) -> None:
        """Raises UsageError for a grammar that no text matches, or whose first token can't be found in bounded work."""
        self._matcher.compute_bitmask()
        if self._matcher.is_error():
            reason = self._matcher.get_error()
            raise unusable("no text matches it" if reason.startswith("NoExtension") else reason)

    def take(self, token: int) -> None:
        """Goes on by one token of the answer; past the grammar's end nothing counts."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def allowed(self, vocabulary: int) -> np.ndarray:
        """[vocabulary] bool. After the grammar's end only the end-of-sequence token is allowed."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(bool)
        return np.pad(mask, (0, vocabulary - len(mask)))
