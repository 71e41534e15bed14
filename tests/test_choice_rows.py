"""Rows of questions as data sets have them: where the choices stand, and which of them is the right one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmkit.errors import RowError
from llmkit.rows import Row
from llmkit.rows.fields import PromptFields
from llmkit.tasks.choose import ChoiceFields

TEXTS = ("honey", "wax", "stone")


def right(fields: dict[str, Any], answer_field: str | None = None) -> str:
    """The right choice of a row."""
    choices, place = ChoiceFields(PromptFields("{question}"), answer_field=answer_field).choices(Row(0, 1, fields), "rows")
    assert choices == TEXTS
    return choices[place]


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (list(TEXTS), 1), (list(TEXTS), "1"), (list(TEXTS), "B"), (list(TEXTS), "wax"),
        ({"text": list(TEXTS), "label": ["A", "B", "C"]}, "B"), ({"text": list(TEXTS), "label": ["1", "2", "3"]}, "2"),
        ({"text": list(TEXTS), "label": ["1", "2", "3"]}, 2), ({"text": list(TEXTS), "label": [1, 2, 3]}, 2),
        ({"text": list(TEXTS), "label": ["A", "B", "C"]}, 1),
        ([{"text": text, "label": label} for text, label in zip(TEXTS, "ABC", strict=True)], "B"),
        (json.dumps(TEXTS), "B"), (json.dumps({"text": TEXTS, "label": ["1", "2", "3"]}), "2"),
    ],
)  # fmt: skip
def test_the_right_choice_is_a_text_a_letter_a_name_or_a_number(choices: Any, answer: Any) -> None:
    assert right({"choices": choices, "answer": answer}) == "wax"


@pytest.mark.parametrize("name", ["choices", "endings", "options"])
def test_choices_have_the_names_of_known_data_sets(name: str) -> None:
    assert right({name: list(TEXTS), "label": "2"}) == "stone"


@pytest.mark.parametrize("answer", [True, None, "", "D", 3, -1, "Wax", [1], 1.5])
def test_what_names_no_choice_is_an_error(answer: Any) -> None:
    with pytest.raises(RowError, match="field 'answer' is not one of the choices"):
        right({"choices": list(TEXTS), "answer": answer})


@pytest.mark.parametrize("choices", [None, [], ["honey"], ["honey", 2], "honey, wax", {"label": ["A", "B"]}, [["honey"], ["wax"]]])
def test_what_is_no_list_of_texts_is_an_error(choices: Any) -> None:
    with pytest.raises(RowError, match="is not a list of at least two texts"):
        right({"choices": choices, "answer": 0})


@pytest.mark.parametrize(("labels", "answer"), [("12345", 1), ("12345", 5), ("102", 0)])
def test_a_number_that_is_one_label_and_the_place_of_another_is_asked_about(labels: str, answer: int) -> None:
    fields = ChoiceFields(PromptFields("{text}"), tuple(labels), "label")
    with pytest.raises(RowError, match=f"field 'label' is the number {answer}, which could be that label or a place"):
        fields.choices(Row(0, 1, {"text": "Great!", "label": answer}), "rows")
    assert fields.choices(Row(0, 1, {"text": "Great!", "label": str(answer)}), "rows")[1] == labels.index(str(answer))


@pytest.mark.parametrize(("labels", "answer"), [(("0", "1"), 1), (("bad", "good"), 1), (("no", "1 star"), 1)])
def test_a_number_that_can_mean_one_label_alone_is_its_place(labels: tuple[str, ...], answer: int) -> None:
    fields = ChoiceFields(PromptFields("{text}"), labels, "label")
    assert fields.choices(Row(0, 1, {"text": "Great!", "label": answer}), "rows")[1] == answer


def test_two_right_choices_are_asked_about() -> None:
    row = {"choices": list(TEXTS), "answer": "wax", "label": 2}
    with pytest.raises(RowError, match="fields 'answer' and 'label' name different choices"):
        right(row)
    assert right(row, answer_field="label") == "stone"
    assert right(row | {"label": 1}) == "wax"
    assert right(row | {"label": "an explanation"}) == "wax"
