"""Documents and rows in which one piece of a format's syntax is repeated or nested thousands of times: read in linear time.

A case is 60 kB. What is quadratic takes more than its processor time; what is linear takes a second, at most a few.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

from fuzz.case import Case
from fuzz.documents import taken_apart

_SIZE = 60_000
#: White space, quotes, brackets, escapes, entities, placeholders, tags: of one format or another.
_ANY = (
    *" \t\n\r'\"`~!@#$%^&*()-_=+[]{}|;:,.<>/?\\\0\x1b", "\r\n", "\u00a0", "\u2028", "\u200b", "\ufeff", "a", "a ", "a\n", "a\n\n", " \n",
    "&amp;", "&#", "&#x41;", "&a", "\\n", "\\u0041", "\\ud800", "\\\\", '\\"', "%s", "%(a)s", "%1$s", "{0}", "{{", "}}", "{{a}}", "${",
    "#{", "%{", "{a, plural, one {", "<a", "<a ", "<a b='", '<a b="', "</a>", "</", "<a>", "<a/>", "<!--", "-->", "<!-", "<![CDATA[", "]]>",
    "<!DOCTYPE ", "<?", "?>", "<![", "<!", "https://a.b/", "a@b.c ", "1. ", "- ", "* ", "> ", "# ", "''", '"""',
)  # fmt: skip
_MARKDOWN = (
    "![", "[a](", "](", "[a][", "[a]:", "[a]: b\n", "[^1]", "[^1]: ", "**", "__", "*a", "_a", "*a*", "~~", "``", "```\n", "|", "|-|\n", "$$",
    "\\(", ":::", "::: a\n", "<b>", "<div>\n", "==", "[[", "{#a}", "{%", "{% a %}", "<%", "{/*", "<A b={", "[a](<", '[a](b "', "- a\n",
    "> > ", "a|b\n-|-\n", "*[a]: b\n", "import a\n",
)  # fmt: skip
_PAGE = (
    "<b>", "</b>", "<p>", "<p>a", "<div>", "<td>", "<table>", "<li>", "<script>", "<style>", "<textarea>", "<title>", "<svg>", "<pre>",
    "<select>", "<br>", "<img alt='a'>", "<a title='", "a='b' ", "<meta charset=", "<plaintext>", "<template>", "<!-->", "--!>", "<a\n",
)  # fmt: skip
_STRINGS = ('"a" = "b";\n', '"a" = ', "/*", "*/", "//", "a = b;\n", "a=b\n", "a=b\\\n", "\\\n", "#a\n", "!a\n", "%@")
_XML = ("<string name='a'>x</string>", "<item>x</item>", "<plurals name='a'>", "<source>", "<g id='1'>", "<ph id='1'/>", "xmlns:a='b' ")
_JSON = ('{"a":', '{"a":"b",', '"a":"b",', '"a",', "[", "{},", "null,", "1e", "{a, select, ", "//", "@:a", " | ")
_CUES = (
    "1\n00:00:01,000 --> 00:00:02,000\n",
    "-->",
    "<i>",
    "{\\an8}",
    "{\\",
    "- a\n",
    "NOTE\n",
    "<v a>",
    "<00:01.000>",
    "\\N",
    "Dialogue: ",
)
_ENTRIES = ('msgid "a"\nmsgstr ""\n\n', 'msgid "', 'msgstr ""\n', '"a"\n', '#~ msgid "a"\n', "#, fuzzy\n", "#: a:1\n", 'msgctxt "a"\n')
_TEX = (
    "\\textbf{", "\\begin{a}", "\\end{a}", "\\item ", "%a\n", "\\verb|", "\\section{", "\\footnote{", "\\cite{", "\\href{a}{", "\\a[", "\\(",
    "\\[", "\\def\\a{", "\\left(", "\\iffalse ", "\\a*{",
)  # fmt: skip
_RST = (
    "`a",
    "`a`_",
    "`a <",
    "|a",
    "a_ ",
    "[1]_",
    ".. a::\n",
    ".. _a: b\n",
    "::\n\n",
    "a\n===\n\n",
    "===  ===\n",
    "+-",
    ":a:`",
    ">>> a\n",
    "\\ ",
)
_YAML = ("- a\n", "a:\n", "a: b\n", "? ", "&a ", "*a ", "[", "{a: ", "!!", "a: |\n  b\n", "---\n", "<<: *a\n", "- - ", "- 'a''b'\n")
_TITLE = 'msgid ""\nmsgstr ""\n"Plural-Forms: nplurals=2; plural=n != 1;\\n"\n\n'
_EVENTS = "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
#: Ending → pieces of its own, and what may stand before and behind them.
_DOCUMENTS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    ".md": (_MARKDOWN, (("", ""), ("Hello ", " end\n\nx\n"), ("- a\n\n  ", ""), ("| a |\n|-|\n| ", " |\n"))),
    ".mdx": (_MARKDOWN, (("", ""), ("<A b={", "} />\n"))),
    ".html": (_PAGE, (("<p>", "</p>"), ("<p title='", "'>a</p>"), ("<table><tr><td>", ""), ("<script>", ""), ("<!--", ""))),
    ".srt": (_CUES, (("1\n00:00:01,000 --> 00:00:02,000\n", "\n\n2\n00:00:03,000 --> 00:00:04,000\nx\n"), ("", ""))),
    ".vtt": (_CUES, (("WEBVTT\n\n", ""), ("WEBVTT\n\n00:01.000 --> 00:02.000\n", "\n"))),
    ".ass": (_CUES, ((_EVENTS, ""), (f"{_EVENTS}Dialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,", "\n"))),
    ".po": (_ENTRIES, (("", ""), (f'{_TITLE}msgid "', '"\nmsgstr ""\n'))),
    ".xlf": (_XML, (('<xliff version="1.2"><file source-language="en"><body><trans-unit id="1"><source>', "</source></trans-unit></body></file></xliff>"),)),
    ".xml": (_XML, (("<resources>", "</resources>"), ('<resources><string name="a">', "</string></resources>"))),
    ".strings": (_STRINGS, (("", ""), ('"a" = "', '";\n'))),
    ".properties": (_STRINGS, (("", ""), ("a=", "\n"))),
    ".tex": (_TEX, (("\\documentclass{article}\\begin{document}Hello ", " x\\end{document}"), ("\\section{", "}\n"))),
    ".rst": (_RST, (("", ""), ("Hello ", " x\n"), (".. note::\n\n   ", "\n"))),
    ".json": (_JSON, (('{"a":"', '"}'), ('{"a":', "}"), ("{", "}"))),
    ".xcstrings": (_JSON, (('{"sourceLanguage":"en","version":"1.0","strings":{"', '":{}}}'),)),
    ".yaml": (_YAML, (("", ""), ("a: ", "\n"), ('a: "', '"\n'))),
}  # fmt: skip
_ROWS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    ".jsonl": (_JSON, (("", ""), ('{"prompt": "a", "x": ', "}\n"), ('{"prompt": "', '"}\n'))),
    ".rows.json": (_JSON, (("[", "]"), ('[{"prompt": "a", "x": ', "}]"))),
    ".csv": (('a,"', '"a"', '""', ",", ";", "\n,"), (("prompt,b\n", ""), ("", "\na,b\n"))),
    ".tsv": (('a\t"', "\t", "\n\t"), (("prompt\tb\n", ""), ("", "\na\tb\n"))),
    ".txt": ((), (("", ""),)),
}
_BEHIND = {"<": "</b>", "[": "]", "{": "}", "(": ")", '"': '"', "*": "*", "!": "](b)"}


def case(chance: Random, folder: Path, bases: Path) -> Case:
    formats = _DOCUMENTS if chance.random() < 0.8 else _ROWS
    ending = chance.choice(list(formats))
    own, around = formats[ending]
    piece = chance.choice((*own, *own, *_ANY))
    before, behind = chance.choice(around)
    count = _SIZE // len(piece)
    middle = piece * count
    if (closing := _BEHIND.get(piece[0])) is not None and chance.random() < 0.3:
        middle = piece * (count // 2) + "a" + closing * (count // 2)
    elif chance.random() < 0.2:
        middle = f"{piece}word " * (_SIZE // (len(piece) + 5))
    name = f"page{ending}"
    (folder / name).write_bytes((before + middle + behind).encode("utf-8", "surrogatepass"))
    call = taken_apart if formats is _DOCUMENTS else _read
    return Case(("read", name, repr(piece), repr(before)), (name,), call=partial(call, name, "utf-8"))


def _read(name: str, encoding: str) -> int:
    """All rows of a file."""
    from llmkit.cli import console
    from llmkit.errors import LlmkitError
    from llmkit.rows import open_rows

    try:
        for _ in open_rows(name, encoding=encoding):
            pass
    except LlmkitError as exc:
        console.error(exc)
        return exc.exit_code
    return 0
