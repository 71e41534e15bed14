"""The grammar that an answer must match: of a JSON schema or of a regular expression, in llguidance's notation.

Knows schemas and expressions; not tokenizers. Imports llguidance alone, so that what can't be used is refused before a model is loaded.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError, UnavailableError, UsageError, one_line
from llmkit.files import read_at_most

#: Keywords of JSON schema that llguidance (1.9) compiles and does not always hold; what it can't compile it refuses by itself.
_NOT_HELD = ("patternProperties", "contentEncoding", "contentMediaType", "contentSchema")
#: Of a schema's file.
_MOST_BYTES = 16_000_000
#: Expressions that a text has to match at once: whether one can takes llguidance twice the time and memory with each more.
_MOST_JOINED = 8
_JOINED = ("pattern", "format", "$ref")
#: Settings of llguidance inside a schema that make it pass over what it can't hold.
_LENIENT = ("lenient", "coerce_one_of")
#: What to write in the place of a keyword.
_INSTEAD = {
    "not": "list what is allowed, with 'enum' or 'anyOf'",
    **dict.fromkeys(("if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas"), "list the cases in 'anyOf'"),
    **dict.fromkeys(("contains", "minContains", "maxContains"), "put what has to be there first, with 'prefixItems'"),
    "uniqueItems": "leave it out, and remove what is there twice from the answers",
    **dict.fromkeys(("patternProperties", "propertyNames"), "name the properties, or describe all others with 'additionalProperties'"),
    "unevaluatedProperties": "use 'additionalProperties' beside the properties",
    "unevaluatedItems": "use 'items' beside 'prefixItems'",
    **dict.fromkeys(("$dynamicRef", "$recursiveRef"), "use '$ref'"),
    "coerce_one_of": "use 'anyOf'",
}
_OTHERWISE = "describe the answer without it"
#: Parts of llguidance's reasons (1.9), and what helps.
_REASONS = (
    ("Unknown format", "leave 'format' out, or use 'pattern'"),
    ("oneOf", "use 'anyOf'"),
    ("present in a registry", "nothing is fetched: put what '$ref' names into '$defs'"),
    ("does not exist", "put what '$ref' names into '$defs'"),
    ("Unsatisfiable", "no answer could match it: remove one of the two conditions"),
    ("no text", "a '$ref' that leads back to itself, or a class without characters, matches nothing"),
    ("object schema", 'a schema is an object, such as {"type": "object"}'),
    ("look", "write the expression without look-ahead, look-behind and word boundaries"),
    ("backreferences", "write the expression without back-references"),
    ("regex", "check the expression"),
)
#: Keywords whose value is a schema, a list of schemas, or an object of schemas by name.
_SCHEMAS = ("items", "additionalItems", "additionalProperties", "prefixItems", "allOf", "anyOf", "oneOf", "not", "contains")
_NAMED_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")


def grammar(decoding: Decoding) -> str:
    """The grammar of `decoding.json_schema` or `decoding.regex`.

    Raises UsageError for one that can't be compiled or held, InputError for a file that can't be read, UnavailableError without llguidance.
    """
    try:
        from llguidance import LLMatcher
    except ImportError as exc:
        raise UnavailableError("`json_schema` and `regex` need llguidance", hint="pip install 'llmkit[constrained]'") from exc
    try:
        if decoding.regex is not None:
            made = LLMatcher.grammar_from_regex(decoding.regex)
        else:
            # small models could write white space without end where the schema allows any
            made = LLMatcher.grammar_from_json_schema(read_schema(decoding.json_schema or ""), defaults={"whitespace_flexible": False})
    except ValueError as exc:
        raise unusable(str(exc)) from exc
    if problem := LLMatcher.validate_grammar(made):
        raise unusable(problem)
    return str(made)


def unusable(reason: str) -> UsageError:
    """What is said of a grammar that can't be compiled, by the library's reason, and what to write instead."""
    if (keys := re.fullmatch(r"Unimplemented keys: \[(.*)\]", reason.strip())) is not None:
        return _not_supported(re.findall(r'"([^"]*)"', keys.group(1)))
    hint = next((what for part, what in _REASONS if part in reason), "describe the answer in a simpler way")
    return UsageError(f"the constraint can't be used: {one_line(reason)}", hint=hint)


def _not_supported(keywords: list[str]) -> UsageError:
    names = " and ".join(f"'{one_line(keyword)}'" for keyword in keywords[:3])
    hint = next((_INSTEAD[keyword] for keyword in keywords if keyword in _INSTEAD), _OTHERWISE)
    return UsageError(f"`json_schema`: {names} {'is' if len(keywords) == 1 else 'are'} not supported", hint=hint)


def read_schema(text: str) -> str:
    """The JSON schema given as a file's name or as JSON itself. Raises InputError or UsageError."""
    given = text.lstrip()
    if not given.startswith(("{", "true", "false")):
        try:
            text = read_at_most(Path(text), _MOST_BYTES).decode("utf-8")
        except (OSError, ValueError) as exc:
            raise InputError(f"the schema can't be read: {getattr(exc, 'strerror', None) or exc}", path=given[:200]) from exc
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"`json_schema`: not JSON: {exc}") from exc
    if (keyword := _not_held(schema)) is not None:
        raise _not_supported([keyword])
    if (joined := _joined(schema)) > _MOST_JOINED:
        raise UsageError(
            f"`json_schema`: 'allOf' joins {joined:,} patterns, formats and references; at most {_MOST_JOINED} can be checked together",
            hint="write them as one 'pattern'",
        )
    return text


def _joined(schema: Any) -> int:
    """The most expressions anywhere below one 'allOf'."""
    most, left = 0, [(schema, 0)]  # with the number of the 'allOf' around, 0 for none
    counts: list[int] = [0]
    while left:
        each, around = left.pop()
        if isinstance(each, list):
            left += [(inner, around) for inner in each]
        if not isinstance(each, dict):
            continue
        if around:
            counts[around] += sum(isinstance(each.get(name), str) for name in _JOINED)
            most = max(most, counts[around])
        for name, inner in each.items():
            if name == "allOf" and not around:
                counts.append(0)
                left.append((inner, len(counts) - 1))
            else:
                left.append((inner, around))
    return most


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
        if keyword := next((name for name in (*_NOT_HELD, *lenient) if name in each or name in lenient), None):
            return keyword
        left += [each[name] for name in _SCHEMAS if name in each]
        left += [list(each[name].values()) for name in _NAMED_SCHEMAS if isinstance(each.get(name), dict)]
    return None
