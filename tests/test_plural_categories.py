"""Plurals in the categories of the target language: those that the source lacks are added, with the text of "other"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_document_corpus import answered

from llmkit.translation.documents.formats import open_document
from llmkit.translation.documents.plurals import categories
from llmkit.translation.documents.verification import verify


def translated(tmp_path: Path, name: str, source: str, target: str) -> str:
    """The file in capitals; as it was where nothing is translated."""
    path = tmp_path / name
    path.write_text(source)
    document, data = open_document(str(path), target)
    if target == "fr":
        assert document.build([None] * len(document.segments)) == data
    made = verify(document, answered(document, str.upper))
    assert made.left == ()
    return made.data.decode()


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("fr", "one other"), ("ja", "other"), ("pl", "one few many"), ("ru", "one few many"), ("ar", "zero one two few many other"),
        ("pt-BR", "one other"), ("zh-Hant", "other"), ("cy", "zero one two few many other"), ("xx", ""), ("not a tag", ""),
    ],
)  # fmt: skip
def test_a_languages_categories_are_those_that_whole_numbers_need(tag: str, expected: str) -> None:
    assert categories(tag) == tuple(expected.split())


def test_an_icu_message_gets_the_categories_that_its_language_needs(tmp_path: Path) -> None:
    source = '{"a": "You have {n, plural, one {# cat} other {{n} cats}} here", "b": "{g, select, male {he} other {they}}"}'
    assert translated(tmp_path, "a.json", source, "ru") == (
        '{"a": "YOU HAVE {n, plural, one {# CAT} other {{n} CATS} few {{n} CATS} many {{n} CATS}} HERE", '
        '"b": "{g, select, male {HE} other {THEY}}"}'
    )
    assert "few" not in translated(tmp_path, "a.json", source, "fr")


def test_a_category_whose_numbers_have_texts_of_their_own_is_not_added(tmp_path: Path) -> None:
    source = '{"a": "{n, plural, =0 {none} =1 {one cat} other {# cats}}"}'
    assert translated(tmp_path, "a.json", source, "fr") == '{"a": "{n, plural, =0 {NONE} =1 {ONE CAT} other {# CATS}}"}'
    assert "one {# CATS} few {# CATS} many {# CATS}" in translated(tmp_path, "a.json", source, "ru")


def test_a_plural_inside_a_select_gets_them_in_each_branch(tmp_path: Path) -> None:
    source = '{"a": "{g, select, male {he has {n, plural, other {# cats}}} other {they have {n, plural, other {# cats}}}}"}'
    built = translated(tmp_path, "a.json", source, "pl")
    assert built.count("few {# CATS}") == built.count("many {# CATS}") == 2


def test_android_items_are_added_behind_other(tmp_path: Path) -> None:
    items = '<item quantity="one">%d cat</item>\n    <item quantity="other">%d <b>cats</b></item>\n'
    source = f'<resources>\n  <plurals name="n">\n    {items}  </plurals>\n  <string name="a">Hi there</string>\n</resources>\n'
    built = translated(tmp_path, "strings.xml", source, "pl")
    assert re.findall(r'quantity="(\w+)">(.*)</item>', built) == [
        ("one", "%d CAT"), ("other", "%d <b>CATS</b>"), ("few", "%d <b>CATS</b>"), ("many", "%d <b>CATS</b>"),
    ]  # fmt: skip
    assert built.count("\n    <item") == 4
    assert '<string name="a">HI THERE</string>' in built


def test_a_string_catalog_gets_them_in_order(tmp_path: Path) -> None:
    unit = '{"stringUnit": {"state": "translated", "value": "%s"}}'
    plural = f'{{"one": {unit % "%lld cat"}, "other": {unit % "%lld cats"}}}'
    source = f'{{"sourceLanguage": "en", "strings": {{"k": {{"localizations": {{"en": {{"variations": {{"plural": {plural}}}}}}}}}}}}}'
    built = translated(tmp_path, "a.xcstrings", source, "ru")
    assert re.findall(r'"(one|few|many|other)": ?\{', built.partition('"ru"')[2]) == ["one", "few", "many", "other"]


def test_a_catalog_without_a_translation_gets_the_targets_language_and_plural_forms(tmp_path: Path) -> None:
    header = r'"Language: en\n"' + "\n" + r'"Plural-Forms: nplurals=2; plural=(n != 1);\n"'
    entry = 'msgid "one cat"\nmsgid_plural "%d cats"\nmsgstr[0] ""\nmsgstr[1] ""\n'
    source = f'msgid ""\nmsgstr ""\n{header}\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n{entry}'
    built = translated(tmp_path, "a.po", source, "ru")
    assert r'"Language: ru\n"' in built
    assert "nplurals=3;" in built
    assert 'msgstr[0] "ONE CAT"\nmsgstr[1] "%d CATS"\nmsgstr[2] "%d CATS"\n' in built


def test_the_header_of_a_catalog_with_translations_stays(tmp_path: Path) -> None:
    header = r'"Language: de\n"' + "\n" + r'"Plural-Forms: nplurals=2; plural=(n != 1);\n"'
    entries = 'msgid "cat"\nmsgstr "Katze"\n\nmsgid "the house"\nmsgstr ""\n'
    source = f'msgid ""\nmsgstr ""\n{header}\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n{entries}'
    assert header in translated(tmp_path, "a.po", source, "ru")


def test_the_branches_of_a_plural_in_xliff_are_translated_with_the_codes_in_them(tmp_path: Path) -> None:
    code = '<x id="I" equiv-text="{{x}}"/>'
    sources = [
        f"You have {{n, plural, one {{{code} a &amp; cat}} other {{cats in <g id='1'>it</g>}}}} here",
        "<![CDATA[{n, plural, other {<b>a & b</b>}}]]>", "{n, plural, =1 {{x}} other {{y}}}", "{n, plural, one {a} other {b}",
    ]  # fmt: skip
    units = "".join(f'<trans-unit id="{n}"><source>{source}</source></trans-unit>' for n, source in enumerate(sources))
    head = '<xliff version="1.2"><file original="a" source-language="en" target-language="ru" datatype="plaintext"><body>'
    other = "CATS IN <g id='1'>IT</g>"
    built = translated(tmp_path, "a.xlf", f"{head}{units}</body></file></xliff>", "ru")
    assert re.findall("<target[^>]*>(.*?)</target>", built) == [
        f"YOU HAVE {{n, plural, one {{{code} A &amp; CAT}} other {{{other}}} few {{{other}}} many {{{other}}}}} HERE",
        "{n, plural, other {&lt;b&gt;A &amp; B&lt;/b&gt;} one {&lt;b&gt;A &amp; B&lt;/b&gt;} few {&lt;b&gt;A &amp; B&lt;/b&gt;} "
        "many {&lt;b&gt;A &amp; B&lt;/b&gt;}}",
    ]


def test_the_branches_of_a_plural_in_a_catalog_are_translated(tmp_path: Path) -> None:
    source = 'msgid "{n, plural, one {# cat} other {# cats}} in {0}"\nmsgstr ""\n\nmsgid "{n, plural, one {a} other {b}"\nmsgstr ""\n'
    built = translated(tmp_path, "a.po", source, "pl")
    assert 'msgstr "{n, plural, one {# CAT} other {# CATS} few {# CATS} many {# CATS}} IN {0}"' in built
    assert built.endswith('msgstr ""\n')


I18NEXT = (
    """{
 "a_one": "cat",
 "a_other": "cats", "p_ordinal_one": "a", "p_ordinal_other": "b",
 "n": {"one": "a", "other": "b"},
 "c": {"other": "a", "one": "b", "red": "c"}, "c_other": "d"
}
""",
    """{
 "a_one": "CAT",
 "a_other": "CATS",
 "a_few": "CATS",
 "a_many": "CATS", "p_ordinal_one": "A", "p_ordinal_other": "B",
 "n": {"one": "A", "other": "B", "few": "B", "many": "B"},
 "c": {"other": "A", "one": "B", "red": "C"}, "c_other": "D"
}
""",
)
RAILS = (
    """en:
  a:
    one: cat
    other: "cats"  # all
  b: {one: a, other: b}
  c:
  - one: a
    other: |
      b
  d:
    one: a
    other: b
    red: c
  e: &e
    one: a
    other: b
  f: *e""",
    """ru:
  a:
    one: CAT
    other: "CATS"  # all
    few: "CATS"
    many: "CATS"
  b: {one: A, other: B, few: B, many: B}
  c:
  - one: A
    other: |
      B
    few: |
      B
    many: |
      B
  d:
    one: A
    other: B
    red: C
  e: &e
    one: A
    other: B
    few: B
    many: B
  f: *e""",
)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize(("name", "files"), [("a.json", I18NEXT), ("a.yml", RAILS)], ids=["i18next", "rails"])
def test_the_keys_of_a_plural_are_those_that_the_language_needs(name: str, files: tuple[str, str], end: str, tmp_path: Path) -> None:
    source, expected = (text.replace("\n", end) for text in files)
    path = tmp_path / name
    path.write_bytes(source.encode())
    document, _ = open_document(str(path), "ru")
    made = verify(document, answered(document, str.upper))
    assert made.left == ()
    assert made.data.decode() == expected
