"""Forms of numbers and dates. Java's choices: each text is one of its own, limits and quotes are as a program reads them."""

from __future__ import annotations

import pytest
from tiny_translator import french

from llmkit.translation.documents import icu, messages
from llmkit.translation.untranslatable import is_code


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("{0,choice,0#no cats|1#one cat|1<{0} cats}", ["no cats", "one cat", "{0} cats"]),
        ("{0, choice, -∞#house|0≤red cat|1.5e3<{1,number,#.##} cats}: {2}", ["house", "red cat", "{1,number,#.##} cats"]),
        ("{0,choice,0#{1,date,yyyy|MM|dd}|1#The cat}", ["The cat"]),
    ],
)
def test_each_text_of_a_choice_is_one_of_its_own(source: str, texts: list[str]) -> None:
    made = messages.message(source, 1, java=True)
    assert made is not None
    assert [segment.text for segment in made.segments][-len(texts) :] == texts
    assert made.write([segment.text for segment in made.segments]) == source
    written = made.write([french(segment.text) for segment in made.segments])
    before, after = icu.message(source, messages.MARKS), icu.message(written, messages.MARKS)
    assert [len(parts) for _, parts in before.holes] == [len(parts) for _, parts in after.holes]
    assert written == french(source)


def test_no_word_of_a_translation_ends_or_quotes_the_text_of_a_choice() -> None:
    made = messages.message("{0,choice,0#no cats|1#one cat}", 1, java=True)
    assert made is not None
    assert made.write(["il n'y a | rien", "l'un"]) == "{0,choice,0#il n’y a / rien|1#l’un}"


@pytest.mark.parametrize("source", ["{0,choice,no cats|1#one cat}", "{0,choice,0#no cats|many}", "{0,choice,0#no cats", "{0,choice,}"])
def test_what_is_no_choice_is_left_as_it_is(source: str) -> None:
    made = messages.message(source, 1, java=True)
    assert made is not None
    assert made.write(["le chat"] * len(made.segments)) == source


@pytest.mark.parametrize("form", ["{0,number,#.##}", "{0,date,dd.MM.yyyy ''at'' HH:mm}", "{0,time,short}"])
def test_formats_of_numbers_and_dates_are_marks(form: str) -> None:
    made = messages.message(f"The house {form}", 1, java=True)
    assert made is not None
    (segment,) = made.segments
    assert [segment.text[a:b] for a, b in segment.marks] == [form]
    assert made.write([french(segment.text)]) == f"Le maison {form}"


@pytest.mark.parametrize(("text", "code"), [("Y-m-d H:i:s", True), ("F j, Y", True), ("x", True), ("I am", False), ("a house", False)])
def test_the_form_of_a_date_is_no_text(text: str, code: bool) -> None:
    assert is_code(text) is code
