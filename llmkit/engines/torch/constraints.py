"""Answers that must be JSON of a schema or match a regular expression, by llguidance.

Knows grammars and a tokenizer; not models. llguidance bounds its own compile time, so a schema that explodes is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError, UnavailableError, UsageError, one_line


class Constraint:
    """A compiled grammar for one tokenizer. Raises UsageError for a schema or expression that can't be compiled."""

    def __init__(self, decoding: Decoding, tokenizer: Any, vocabulary: int) -> None:
        try:
            import llguidance
            import llguidance.hf
        except ImportError as exc:
            raise UnavailableError("`json_schema` and `regex` need llguidance", hint="pip install 'llmkit[constrained]'") from exc
        self._llguidance = llguidance
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary)
        try:
            if decoding.regex is not None:
                self.grammar = llguidance.LLMatcher.grammar_from_regex(decoding.regex)
            else:
                self.grammar = llguidance.LLMatcher.grammar_from_json_schema(
                    # small models could write white space without end where the schema allows any
                    read_schema(decoding.json_schema or ""),
                    defaults={"whitespace_flexible": False},
                )
        except ValueError as exc:
            raise UsageError(f"the constraint can't be used: {one_line(exc)}") from exc
        self.matcher()  # compiles once, so that a bad grammar is found before any work

    def matcher(self) -> Matcher:
        matcher = self._llguidance.LLMatcher(self._tokenizer, self.grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(f"the constraint can't be used: {one_line(matcher.get_error())}")
        return Matcher(matcher)


class Matcher:
    """Follows one answer through the grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def take(self, token: int) -> None:
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def allowed(self, vocabulary: int) -> np.ndarray:
        """[vocabulary] bool. After the grammar's end only the end-of-sequence token is allowed."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(bool)
        return np.pad(mask, (0, vocabulary - len(mask)))


def read_schema(text: str) -> str:
    """The JSON schema given as a file's name or as JSON itself. Raises InputError or UsageError."""
    given = text.lstrip()
    if not given.startswith(("{", "true", "false")):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise InputError(f"the schema can't be read: {getattr(exc, 'strerror', None) or exc}", path=given[:200]) from exc
    try:
        json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"`json_schema`: not JSON: {exc}") from exc
    return text
