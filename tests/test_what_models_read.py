"""What of a text a model reads: whole sentences of prose, without the values, names and signs that a program reads or that stay."""

from __future__ import annotations

import pytest
from conftest import Run

from llmkit.translation.documents.messages import MARKS, is_text
from llmkit.translation.documents.subtitles import parse
from llmkit.translation.markup import strip
from llmkit.translation.pieces import split
from llmkit.translation.placeholders import IN_PROSE, PLACEHOLDER


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("(The cat is here.)", ["The cat is here."]), ("[MUSIC] The cat is here.", ["MUSIC", "The cat is here."]),
        ("The house\t5\tThe cat", ["The house", "The cat"]), ("The house | My site", ["The house", "My site"]),
        ("The (red) house.", ["The (red) house."]), ("[a] and [b]", ["[a] and [b]"]), ("(see below) the house", ["(see below) the house"]),
    ],
)  # fmt: skip
def test_brackets_tabs_and_bars_are_around_sentences(text: str, pieces: list[str]) -> None:
    made = split(text, "en", lambda _: True)
    assert [piece.text for piece in made.pieces] == pieces
    assert made.joined() == text


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("%Y-%m-%d", "default"), ("%a, %-d. %b %Y %H:%M:%S %z", "long"), (":year", "order"), ("fa-house", "icon"), ("up", "round_mode"),
        ("nav-link", "class"), ("{{count}}", "a"), ("%{count}", "a"), ("@tom", "a"), ("#fff", "a"),
    ],
)  # fmt: skip
def test_what_programs_read_is_no_text(value: str, key: str) -> None:
    assert not is_text(value, key)


@pytest.mark.parametrize(
    ("value", "key"), [("%d cats", "a"), ("The icon is here", "icon"), ("%b %d at noon", "a"), ("check-in", "a"), ("Type", "type")]
)
def test_what_people_read_is_a_text(value: str, key: str) -> None:
    assert is_text(value, key)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("Use %{name}, ${ a.b }, $HOME or :name", ["%{name}", "${ a.b }", "$HOME", ":name"]),
        ("By @tom-smith, #12 → 👩‍👩‍👧™", ["@tom-smith", "#12", "→", "👩‍👩‍👧™"]),
        ("It costs 5 $ or US$, at 10:30, a:b, C#, me@example.org", ["me@example.org"]),
    ],
)  # fmt: skip
def test_what_a_program_puts_in_is_a_mark(text: str, marks: list[str]) -> None:
    assert [match.group() for match in PLACEHOLDER.finditer(text)] == marks


def test_names_in_programs_are_marks_of_prose() -> None:
    text = "The my_house of the --color, a well-known f_x() and fooBar"
    assert [match.group() for match in IN_PROSE.finditer(text)] == ["my_house", "--color", "f_x()"]


def test_literals_of_vue_are_marks() -> None:
    assert MARKS.findall("{'@'} the house") == ["{'@'}"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [('The file "%s" is (%d) here.', "The file is here."), ("[%s] The cat", "The cat"), ("[%s](%d)", "")],
)
def test_what_holds_a_placeholder_alone_goes_with_it(text: str, plain: str) -> None:
    assert strip(text, PLACEHOLDER).plain.strip() == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a}: the cat", "{a}: THE CAT"), ('"{a}" ({b}) the [%s](%d) cat', '"{a}" ({b}) THE [%s](%d) CAT'),
        ("the {a} 'cat'", "THE {a} 'CAT'"), ('the "{a}cat{b}"', 'THE "{a}CAT{b}"'),
    ],
)  # fmt: skip
def test_a_mark_stands_where_it_stood(text: str, expected: str) -> None:
    marked = strip(text, PLACEHOLDER)
    pieces = split(marked.plain, "en", lambda _: True)
    assert marked.joined(pieces, [piece.text.upper() for piece in pieces.pieces]) == expected


def test_what_is_heard_has_lines_of_its_own() -> None:
    document = parse(b"00:01,000 --> 00:02,000\n[cat]\n(THE CAT)\nThe house\n(red) is\nhere\nMAN: - no.\n", "a.srt")
    assert [segment.text for segment in document.segments] == ["[cat]", "(THE CAT)", "The house (red) is here", "MAN: - no."]
    assert document.build([None, None, None, "MAN: - non."]).endswith(b"\nMAN: - non.\n")


def test_a_speakers_name_and_the_signs_of_a_song_are_not_translated() -> None:
    document = parse("00:01,000 --> 00:02,000\nMAN 1: The cat.\n♪ The house ♪\n".encode(), "a.srt")
    assert [segment.prose().strip() for segment in document.segments] == ["The cat.", "The house"]


def test_captions_name_their_new_language() -> None:
    source = b"WEBVTT\nKind: captions\nLanguage: en\n\n00:01.000 --> 00:02.000\nLanguage: en\n"
    document = parse(source, "a.vtt", "fr")
    assert document.build([None]) == source.replace(b"Language: en", b"Language: fr", 1)


def test_an_emoji_in_a_text_is_left_where_it_is(run: Run) -> None:
    done = run("translate", "I am tired 😀 today.", "--to", "fr", "--num-beams", "1")
    assert done.code == 0
    assert "😀" in done.out
    assert "fatigué" in done.out
