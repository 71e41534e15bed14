"""Messages of programs: what a translation may not change, and what is no text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run, read_rows
from tiny_translator import translated

from llmkit.errors import InputError
from llmkit.translation.documents import json_messages, messages, properties, xcstrings, xliff, yaml_messages
from llmkit.translation.documents.base import Document


def built(document: Document, *texts: str) -> bytes:
    return document.build(texts)


@pytest.mark.parametrize(
    "value",
    ["#fff", "house_cat", "HOUSE_CAT", "houseCat", "a.b.c", "https://a.b/c", "/img/a.png", "img/a.png", "C:\\a", "text/html", "en-US",
     "12px", "dd/MM/yyyy", "{name}", "%s", "", "12", "x" * 30 + "1", "--flag", "a" * 300],
)  # fmt: skip
def test_names_paths_and_codes_are_no_texts(value: str) -> None:
    assert not messages.is_text(value)


@pytest.mark.parametrize("value", ["Save", "yes/no", "E-mail", "{n} cats", "Hello!", "e.g. this", "日本語", "{n, plural, other {x}}"])
def test_words_are_texts(value: str) -> None:
    assert messages.is_text(value)


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("The {cat}", "Le {cat} {x}"),
        ("The cat", "Le {chat}"),
        ("The <b>cat</b>", "Le <b>chat</b><i>"),
        ("The %s cat", "Le %s chat %d"),
        ("{n, plural, one {a} other {b}} cats", "{n, plural, one {a} other {b}} chats }"),
    ],
)
def test_a_placeholder_too_many_fails_the_proof(text: str, translation: str) -> None:
    document = json_messages.parse(json.dumps({"a": text}).encode(), "a.json")
    assert document.keep.problem(document.segments[0].text, translation) is not None


def test_a_message_that_only_looks_like_icu_is_reported_and_stays() -> None:
    source = b'{"a": "{n, plural, one {The cat}"}'
    document = json_messages.parse(source, "a.json")
    assert document.keep.problem(document.segments[0].text, "Le chat") is not None
    assert translated(document) == source


def test_an_apostrophe_before_a_brace_would_quote_it_and_is_written_as_a_letter() -> None:
    document = json_messages.parse(b'{"a": "The {x}"}', "a.json")
    assert built(document, "L'{x}") == '{"a": "L’{x}"}'.encode()
    assert document.keep.problem("The {x}", "L'{x}") is None
    plural = json_messages.parse(b'{"a": "{n, plural, one {The cats} other {The #}}"}', "a.json")
    assert built(plural, "Les chats'", "L'#") == '{"a": "{n, plural, one {Les chats’} other {L’#}}"}'.encode()


def test_a_message_with_doubled_apostrophes_gets_them_in_its_translation() -> None:
    document = json_messages.parse(b'{"a": "It\'\'s {0}"}', "a.json")
    assert [segment.text for segment in document.segments] == ["It's {0}"]
    assert built(document, "C'est l'{0}") == b"{\"a\": \"C''est l''{0}\"}"
    table = properties.parse(b"a=The {0}\nb=The cat\n", "a.properties")
    assert built(table, "L'{0}", "L'eau") == b"a=L''{0}\nb=L'eau\n"


def test_a_bundle_in_ascii_stays_in_ascii() -> None:
    assert built(properties.parse(b"a=The cat\n", "a"), "été 😀") == b"a=\\u00E9t\\u00E9 \\uD83D\\uDE00\n"
    assert built(properties.parse("a=The café\n".encode(), "a"), "été") == "a=été\n".encode()
    assert built(properties.parse("a=The café\n".encode("latin-1"), "a"), "été €") == b"a=\xe9t\xe9 \\u20AC\n"


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("a: The cat\n", "Non: oui", 'a: "Non: oui"\n'),
        ("a: The cat\n", "oui # non", 'a: "oui # non"\n'),
        ("a: The cat\n", "- x", 'a: "- x"\n'),
        ("a: The cat\n", "no", 'a: "no"\n'),
        ("a: The cat\n", "12", 'a: "12"\n'),
        ("a: The cat\n", "@x", 'a: "@x"\n'),
        ("a: [The cat]\n", "a, b", 'a: ["a, b"]\n'),
        ("a: 'The cat'\n", "l'eau", "a: 'l''eau'\n"),
        ('a: "The cat"\n', 'a "b" \\', 'a: "a \\"b\\" \\\\"\n'),
        ("a: The cat # b\n", "Le chat", "a: Le chat # b\n"),
        ("a: |-\n  The cat\nb: 1\n", " x", 'a: " x"\nb: 1\n'),
        ("a: >\n  The\n  cat\n\nb: 1\n", "Le\nchat\n", "a: >\n  Le\n\n  chat\n\nb: 1\n"),
        ("a: |\r\n  The cat\r\nb: 1\r\n", "Le\nchat\n", "a: |\r\n  Le\r\n  chat\r\nb: 1\r\n"),
    ],
)
def test_a_value_of_yaml_is_quoted_where_it_would_read_differently(source: str, text: str, expected: str) -> None:
    assert built(yaml_messages.parse(source.encode(), "a.yml"), text).decode() == expected


def test_an_alias_costs_nothing() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert [s.text for s in yaml_messages.parse(f"a0: &a0 The cat\n{levels}".encode(), "a.yml").segments] == ["The cat"]


def test_the_only_root_of_rails_is_renamed_and_no_other_key() -> None:
    assert translated(yaml_messages.parse(b"en:\n  en: The cat\n", "a.yml", "pt-BR")) == b"pt-BR:\n  en: Le chat\n"
    assert translated(yaml_messages.parse(b"en:\n  a: The cat\nde:\n  a: The cat\n", "a.yml", "fr")).startswith(b"en:")
    assert translated(yaml_messages.parse(b"en: The cat\n", "a.yml", "fr")) == b"en: Le chat\n"


def test_xliff_of_another_language_is_refused_once_it_holds_translations() -> None:
    source = (
        '<xliff version="1.2"><file target-language="de"><trans-unit id="1"><source>The cat</source></trans-unit>'
        '<trans-unit id="2"><source>My cat</source>{}</trans-unit></file></xliff>'
    )
    assert b'target-language="fr"' in translated(xliff.parse(source.format("").encode(), "a.xlf", "fr"))
    with pytest.raises(InputError, match="holds translations into 'de'"):
        xliff.parse(source.format("<target>Meine Katze</target>").encode(), "a.xlf", "fr")
    assert xliff.parse(source.format("<target>Meine Katze</target>").encode(), "a.xlf", "de-AT").segments


def test_a_catalog_of_xcode_that_is_translated_has_nothing_to_translate() -> None:
    source = '{"sourceLanguage": "en", "strings": {"The cat": {}, "My %@": {"comment": "house"}}, "version": "1.0"}'
    done = translated(xcstrings.parse(source.encode(), "a.xcstrings", "fr"))
    unit = json.loads(done)["strings"]["The cat"]["localizations"]["fr"]["stringUnit"]
    assert unit == {"state": "needs_review", "value": "Le chat"}
    assert xcstrings.parse(done, "a.xcstrings", "fr").segments == ()
    assert len(xcstrings.parse(done, "a.xcstrings", "de").segments) == 2


# -- as a user sees them --------------------------------------------------------------------------------------------


def test_an_object_is_messages_and_a_list_is_rows(run: Run, tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text('{\n  "a": "Thank you.",\n  "n": 1.50\n}\n')
    (tmp_path / "rows.json").write_text('[{"text": "Thank you."}]')
    done = run("translate", "-i", tmp_path / "en.json", "-o", tmp_path / "fr.json", "--to", "fr", "--num-beams", "1")
    assert done.code == 0, done.err
    assert (tmp_path / "fr.json").read_text() == '{\n  "a": "Merci.",\n  "n": 1.50\n}\n'
    assert run("translate", "-i", tmp_path / "rows.json", "-o", tmp_path / "fr.jsonl", "--to", "fr", "--num-beams", "1").code == 0
    assert read_rows(tmp_path / "fr.jsonl")[0]["translation"] == "Merci."
    refused = run("translate", "-i", tmp_path / "en.json", "-o", tmp_path / "x.jsonl", "--to", "fr", "--input-format", "json")
    assert refused.code == 2
    assert "one JSON object, not a list" in refused.err


def test_a_message_that_is_left_is_an_error_of_its_row(run: Run, tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text('{"a": "{n, plural, one {Thank you.}", "b": "Thank you."}')
    done = run("translate", "-i", tmp_path / "en.json", "-o", tmp_path / "fr.json", "--to", "fr", "--num-beams", "1")
    assert done.code == 3
    assert json.loads((tmp_path / "fr.json").read_text()) == {"a": "{n, plural, one {Thank you.}", "b": "Merci."}


def test_a_file_that_says_its_encoding_is_written_and_printed_in_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.strings").write_bytes('\ufeff"a" = "Thank you.";\n'.encode("utf-16-le"))
    done = run("translate", "-i", tmp_path / "a.strings", "-o", tmp_path / "fr.strings", "--to", "fr", "--num-beams", "1")
    assert done.code == 0, done.err
    assert (tmp_path / "fr.strings").read_bytes() == '\ufeff"a" = "Merci.";\n'.encode("utf-16-le")
    command = [sys.executable, "-m", "llmkit", "translate", "-i", str(tmp_path / "a.strings"), "--to", "fr", "--num-beams", "1", "-q"]
    printed = subprocess.run(command, capture_output=True, check=True)  # pytest's own capture can't hold bytes that are no UTF-8
    assert printed.stdout == (tmp_path / "fr.strings").read_bytes()
    (tmp_path / "a.xlf").write_text('<xliff version="1.2"/>')
    refused = run("translate", "-i", tmp_path / "a.xlf", "--to", "fr", "--encoding", "latin-1")
    assert refused.code == 2
    assert "does not apply to a .xlf file" in refused.err
