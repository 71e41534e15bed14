"""Which fields of a row hold a saved output and its references.

Knows the field names people use, in one table; not models or metrics.
"""

from __future__ import annotations

import re
from typing import Any

from llmkit.errors import RowError
from llmkit.rows.base import Row
from llmkit.rows.fields import first_name, pair, text_of
from llmkit.rows.messages import row_error
from llmkit.rows.values import from_json

#: `text` comes last: it may be the source as well.
PREDICTIONS = ("prediction", "predictions", "prediction_text", "translation", "hypothesis", "output", "text")
REFERENCES = ("references", "reference", "ref", "target", "tgt", "answer", "answers")
#: Those of them that hold lists, and a list as Python and numpy print it.
_LISTS = ("references", "answers")
_PYTHON_LIST = re.compile(r"""\[\s*('[^']*'|"[^"]*")(,?\s*('[^']*'|"[^"]*"))*,?\s*\]|\{\s*'text'.*\}""", re.DOTALL)


def references(row: Row, file_name: str, name: str | None = None) -> tuple[str, ...]:
    """What the answer to a row should be: a text, a list of texts, or SQuAD's {"text": [...]} or [{"text": ...}, ...], also as JSON.

    The reference of a question of SQuAD without an answer is the empty text. Raises RowError; any other empty reference is one.
    """
    both = row.fields.get("translation")
    if name is None and isinstance(both, dict):
        return (pair(row, file_name)[1],)
    name = name or _only_reference(row, file_name)
    whole = _listed(row.fields.get(name), name)
    if name in _LISTS and isinstance(whole, str) and _PYTHON_LIST.fullmatch(whole.strip()):
        hint = 'write it as JSON: ["one", "other"]'
        raise row_error(f"field '{name}' is a list as Python prints it", row, file_name, hint=hint)
    value = _expected(whole)
    if value == [] and isinstance(whole, dict):
        return ("",)
    texts = value if isinstance(value, list) else [text_of(row, name, file_name, "`reference_field`")]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise row_error(f"field '{name}' has an empty reference, or one that is not text", row, file_name)
    return tuple(texts)


def _only_reference(row: Row, file_name: str) -> str:
    """The field that holds the references. Raises RowError where two hold different ones and neither is the list of all."""
    chosen = reference_field(row)
    first = _texts(_listed(row.fields.get(chosen), chosen))
    for name in REFERENCES:
        other = _texts(_listed(row.fields.get(name), name))
        if first and other and not other <= first:
            hint = "name the right one with `reference_field`"
            raise row_error(f"fields '{chosen}' and '{name}' could both be the reference", row, file_name, hint=hint)
    return chosen


def _listed(value: Any, name: str) -> Any:
    """The texts of a cell of a table, which has a list as JSON; any other value as it is, also one of numbers, which may be an answer."""
    if name not in _LISTS or not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        found = from_json(value)
    except (ValueError, RecursionError):
        return value
    texts = _expected(found)
    return found if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else value


def _expected(value: Any) -> Any:
    """The texts of SQuAD's {"text": [...]} and [{"text": ...}, ...]; any other value as it is."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return [each.get("text") for each in value]
    return value["text"] if isinstance(value, dict) and isinstance(value.get("text"), list) else value


def _texts(value: Any) -> set[str]:
    """The texts that a field could mean as references; none of a field that is null, empty or something else."""
    value = _expected(value)
    return {text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text.strip()}


def reference_field(row: Row) -> str:
    """The field that holds the references when none is named."""
    return first_name(row.fields, REFERENCES) or "reference"


def prediction(row: Row, file_name: str, name: str | None = None, *, reference: str | None = None) -> str:
    """The saved output of a row: the field `name`, else the known one that holds text and isn't the reference.

    Raises RowError, also for a row with an error in place of an answer.
    """
    chosen = name or _prediction_field(row, file_name, reference or reference_field(row))
    failed = row.fields.get("error")
    answered = row.fields.get(chosen) and (name or chosen != "text")  # where there is no answer, `text` is the source
    if not answered and isinstance(failed, str) and failed.strip():
        raise row_error(f"the row has no prediction, but an error: {failed[:200]}", row, file_name, hint="run the failed rows again")
    return text_of(row, chosen, file_name, "`prediction_field`")


def _prediction_field(row: Row, file_name: str, reference: str) -> str:
    """The field that holds the prediction when none is named: `prediction` before all others, and `text` after all, as it may be the
    source as well. Raises RowError where two of the others could be it.
    """
    there = [n for n in PREDICTIONS if n != reference and n in row.fields]
    texts = [n for n in there if isinstance(row.fields[n], str)]
    others = [n for n in texts if n != "text"]
    if len(others) > 1 and "prediction" not in others:
        names = "' and '".join(others)
        hint = "name the right one with `prediction_field`"
        raise RowError(f"fields '{names}' could both be the prediction", path=file_name, line=row.line, hint=hint)
    # where none holds text, the message is about the one that is there; the two languages of `translation` are source and reference
    unread = [n for n in there if n not in ("text", *texts) and not isinstance(row.fields[n], dict)]
    return next(iter([*others, *unread, *texts, *there]), "prediction")
