"""Answers that must be JSON of a schema or match a regular expression, by llguidance.

Knows grammars and a tokenizer; not models. llguidance bounds its own compile time, so a schema that explodes is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError, UnavailableError, UsageError, one_line
from llmkit.rows.values import from_json

#: Keywords of JSON schema that llguidance (1.9) compiles and does not always hold; what it can't compile it refuses by itself.
_NOT_HELD = ("patternProperties", "contentEncoding", "contentMediaType", "contentSchema")
#: Settings of llguidance inside a schema that make it pass over what it can't hold.
_LENIENT = ("lenient", "coerce_one_of")
#: Keywords whose value is a schema, a list of schemas, or an object of schemas by name.
_SCHEMAS = ("items", "additionalItems", "additionalProperties", "prefixItems", "allOf", "anyOf", "oneOf", "not", "contains")
_NAMED_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")


class Constraint:
    """A compiled grammar for one tokenizer. Raises UsageError for a schema or expression that can't be compiled or held.

    end: the id of the token that ends an answer; the grammar allows it where its text is complete.
    """

    def __init__(self, decoding: Decoding, tokenizer: Any, vocabulary: int, end: int | None) -> None:
        try:
            import llguidance
            import llguidance.hf
        except ImportError as exc:
            raise UnavailableError("`json_schema` and `regex` need llguidance", hint="pip install 'llmkit[constrained]'") from exc
        if end is None:
            raise UsageError("`json_schema` and `regex` need a model with an end token, and this one has none")
        self._llguidance = llguidance
        self._is_json = decoding.json_schema is not None
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=end)
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
        """A follower of the grammar from its beginning, for one answer. Raises UsageError for a grammar that can't be compiled."""
        matcher = self._llguidance.LLMatcher(self._tokenizer, self.grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(f"the constraint can't be used: {one_line(matcher.get_error())}")
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

    def take(self, token: int) -> None:
        """Goes on by one token of the answer; past the grammar's end nothing counts."""
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
        schema = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"`json_schema`: not JSON: {exc}") from exc
    if (keyword := _not_held(schema)) is not None:
        raise UsageError(f"`json_schema`: '{keyword}' is not supported", hint="describe the answer without it")
    return text


def _not_held(schema: Any) -> str | None:
    """The first keyword anywhere in a schema whose answers might not match it. Walks without recursion: schemas may be deep."""
    left = [schema]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += each
        if not isinstance(each, dict):
            continue
        own = each.get("x-guidance")
        lenient = [name for name in _LENIENT if isinstance(own, dict) and own.get(name)]
        if found := next((name for name in (*_NOT_HELD, *lenient) if name in each or name in lenient), None):
            return found
        left += [each[name] for name in _SCHEMAS if name in each]
        left += [list(each[name].values()) for name in _NAMED_SCHEMAS if isinstance(each.get(name), dict)]
    return None
