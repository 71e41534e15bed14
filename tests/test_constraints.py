"""An answer that must have a form has it, or says that it does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Copy, Run, read_rows, write_rows

from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.constraints import Constraint

PATTERNS = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "multipleOf": 5},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}},
    },
    "required": ["score", "tags"],
    "additionalProperties": False,
    "patternProperties": {"^score$": {"type": "integer"}},
}


@pytest.mark.parametrize("constraint", [["--regex", "(ab){6}"], ["--json-schema", '{"type": "string"}']], ids=["regex", "schema"])
@pytest.mark.parametrize("forbids", [["--no-repeat-ngram-size", "2"], ["--min-new-tokens", "8"]], ids=lambda option: option[0])
def test_what_may_forbid_the_tokens_of_a_constraint_is_refused(run: Run, constraint: list[str], forbids: list[str]) -> None:
    ran = run("generate", "The king", *constraint, *forbids)
    assert ran.code == 2
    assert f"{constraint[0]} and {forbids[0]} cannot be combined" in ran.err


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        (PATTERNS, "patternProperties"),
        ({"type": "object", "properties": {"a": {"patternProperties": {}}}}, "patternProperties"),
        ({"anyOf": [{"type": "integer"}, {"items": [{"patternProperties": {}}]}]}, "patternProperties"),
        ({"$defs": {"a": {"patternProperties": {}}}, "$ref": "#/$defs/a"}, "patternProperties"),
        ({"type": "string", "contentEncoding": "base64"}, "contentEncoding"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "lenient"),
        ({"x-guidance": {"coerce_one_of": True}, "oneOf": [{"type": "integer"}, {"type": "number"}]}, "coerce_one_of"),
    ],
)
def test_a_keyword_that_is_not_held_is_refused_by_name(run: Run, tmp_path: Path, schema: dict[str, Any], keyword: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps(schema))
    ran = run("generate", "Give:", "--json-schema", tmp_path / "s.json")
    assert ran.code == 2
    assert f"'{keyword}' is not supported" in ran.err
    assert "hint:" in ran.err


@pytest.mark.parametrize(
    ("constraint", "said", "instead"),
    [
        ({"not": {"type": "string"}}, "'not' is not supported", "'enum' or 'anyOf'"),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, "'if' and 'then' are not supported", "'anyOf'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems' is not supported", "leave it out"),
        ({"type": "object", "propertyNames": {"pattern": "a"}}, "'propertyNames' is not supported", "'additionalProperties'"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf", "'anyOf'"),
        ({"$ref": "https://x.org/a.json"}, "https://x.org/a.json", "'$defs'"),
        ({"type": "string", "format": "made-up"}, "made-up", "'pattern'"),
        ({"type": "x"}, "Invalid type", "simpler"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "no text matches", "itself"),
        (r"[^\s\S]", "no text matches", "itself"),
        (r"(a)\1", "backreferences", "back-references"),
        (r"\bx", "look", "word boundaries"),
        ("[", "unclosed", "check the expression"),
    ],
    ids=str,
)
def test_what_can_not_be_held_is_told_with_what_to_write_instead(run: Run, constraint: object, said: str, instead: str) -> None:
    option = ["--regex", constraint] if isinstance(constraint, str) else ["--json-schema", json.dumps(constraint)]
    ran = run("generate", "Give:", *option)
    assert ran.code == 2
    error, _, hint = ran.err.partition("hint:")
    assert said in error
    assert instead in hint


def test_patterns_that_take_too_long_to_be_checked_together_are_refused(run: Run) -> None:
    for inner in ({"pattern": ".*{}.*"}, {"anyOf": [{"pattern": "x.*{}"}]}):
        schema = {"allOf": [json.loads(json.dumps(inner).replace("{}", str(number))) for number in range(60)]}
        ran = run("generate", "Give:", "--json-schema", json.dumps(schema))
        assert ran.code == 2
        assert "'allOf' joins 60 patterns" in ran.err


def test_a_property_may_have_the_name_of_a_keyword(run: Run) -> None:
    schema = {"type": "object", "properties": {"patternProperties": {"enum": [1]}}, "additionalProperties": False}
    schema["required"] = ["patternProperties"]
    ran = run("generate", "Give:", "--json-schema", json.dumps(schema), "-q")
    assert json.loads(ran.out) == {"patternProperties": 1}


def test_an_answer_that_a_suppressed_token_breaks_is_an_error_and_not_an_end(run: Run, llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    """The model's own suppressed tokens forbid the only letter that the expression allows."""
    from transformers import AutoTokenizer

    model = copy_of(llama)
    (letter,) = AutoTokenizer.from_pretrained(llama)("b", add_special_tokens=False)["input_ids"]
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": [letter]}))
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "x"}, {"prompt": "the king"}])
    out = tmp_path / "out.jsonl"
    arguments = ["-m", model, "--chat-template", "none", "--regex", "(ab){6}", "--max-new-tokens", 20]
    assert run("generate", "-i", rows, "-o", out, *arguments).code == 3
    assert all("the answer ended before it was complete" in row["error"] and "text" not in row for row in read_rows(out))
    ran = run("generate", "x", *arguments, "--json")
    assert ran.code == 5
    assert "the answer ended before it was complete" in ran.err


def test_an_answer_that_its_limit_cuts_says_so(run: Run) -> None:
    found = json.loads(run("generate", "The king", "--regex", "[a-z]{40}", "--max-new-tokens", 3, "--json", "-q").out)
    assert found["finish_reason"] == "length"
    assert re.fullmatch("[a-z]{1,39}", found["text"])


def test_what_is_no_answer_to_a_constraint_is_known_as_such() -> None:
    from transformers import AutoTokenizer

    from llmkit.models.builtin import folder

    tokenizer = AutoTokenizer.from_pretrained(folder("stories"))
    schema = '{"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2}'

    def broken(text: str, *, ended: bool) -> str | None:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        constraint = Constraint(Decoding(json_schema=schema), tokenizer, len(tokenizer), tokenizer.eos_token_id)
        return constraint.broken(tokens, text, ended=ended)

    assert broken('{"a":1,"b":2}', ended=True) is None
    assert broken('{"a":1,', ended=False) is None
    assert "ended before it was complete" in (broken('{"a":1,', ended=True) or "")
    assert "ended before it was complete" in (broken('{"a":"x"', ended=False) or "")
    assert "occurs twice" in (broken('{"a":1,"a":2}', ended=True) or "")
    assert "ended before it was complete" in (broken("", ended=True) or "")
