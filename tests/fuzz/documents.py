"""Documents: whole and damaged ones of each format, taken apart and put together again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from random import Random

from fuzz.case import Case
from fuzz.damage import PIECES, harmed

_ENCODINGS = ("latin-1", "utf-16", "utf-7", "unicode_escape", "raw_unicode_escape", "idna", "punycode", "base64", "rot13", "cp1252", "x")
_MARKDOWN = """---
title: A page
---
# The *king* and [queen](https://x.org "title")

> - [ ] a task with `code` and ![an image](a.png)
>   1. one\\
>      two

| a | b |
|---|:-:|
| the **king** | `x|y` |

```python
print("no prose")
```
<details><summary>More &amp; more</summary>text</details>

Note[^1] and <b>html</b>, $x^2$, {{ name }}, https://x.org.

[^1]: The note.
"""
_HTML = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>The king</title><style>p > a { }</style></head><body>
<p title="a king">The <b>king</b> and <a href="x?a=1&amp;b=2">the queen</a> lived&nbsp;here.<br>He <i>was</i> old.</p>
<script>if (a < b) { "</p>" }</script><!-- a comment --><ul><li>one<li>two</ul><pre>as it is</pre><textarea>x</textarea>
<img alt="the house" src=x.png><svg><text>no</text></svg><![CDATA[x]]></body></html>
"""
_SRT = "1\n00:00:01,000 --> 00:00:02,500\n- The <i>king</i>\n- {\\an8}lived\n\n2\n00:00:03,000 --> 00:00:04,000\nin a house.\n"
_VTT = "WEBVTT\n\nNOTE a note\n\nSTYLE\n::cue { }\n\nid\n00:01.000 --> 00:02.000 align:start\n<v Roger>The king &amp; the queen\n\n00:03.000 --> 00:04.000\n<00:03.500>lived\n"
_PO = """msgid ""
msgstr ""
"Language: \\\\n"
"Content-Type: text/plain; charset=UTF-8\\\\n"
"Plural-Forms: nplurals=2; plural=n != 1;\\\\n"

#, python-format
msgctxt "menu"
msgid "%(n)s kings"
msgid_plural "%d _Kings"
msgstr[0] ""
msgstr[1] ""

#~ msgid "old"
#~ msgstr ""

msgid "line\\n"
"more"
msgstr ""
""".replace("\\\\", "\\")
_WORD = (
    '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>The king </w:t></w:r>'
    '<w:r><w:rPr><w:b/></w:rPr><w:t xml:space="preserve">lived</w:t><w:tab/><w:t>here</w:t></w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p>'
    "</w:tc></w:tr></w:tbl></w:body></w:document>"
)


def case(chance: Random, folder: Path, bases: Path) -> Case:
    sources = {
        ".md": _MARKDOWN,
        ".html": _HTML,
        ".srt": _SRT,
        ".vtt": _VTT,
        ".po": _PO,
        ".pot": _PO.replace("nplurals=2; plural=n != 1", "nplurals=INTEGER; plural=EXPRESSION"),
    }
    ending = chance.choice((*sources, ".md", ".html", ".docx"))
    data = _word(chance) if ending == ".docx" else harmed(chance, sources[ending].encode())
    if chance.random() < 0.1 and ending != ".docx":
        data = sources[ending].encode() + chance.choice(PIECES) * chance.choice((1, 5, 20))
    name = f"page{ending}"
    (folder / name).write_bytes(data)
    if chance.random() < 0.03 and len(data) <= 20_000:  # a model takes its time for more
        command = ("translate", "-i", name, "-o", f"out{ending}", "--to", "fr", "--limit", "3", "-q")
        return Case(command[:7] + command[9:], (name, "out", "--encoding"), ("out", ".out"))
    encoding = "utf-8" if chance.random() < 0.9 else chance.choice(_ENCODINGS)
    return Case(("translate", "-i", name), (name,), call=lambda: taken_apart(name, encoding))


def taken_apart(name: str, encoding: str) -> int:
    """What `translate` does with a document, but for the model."""
    from llmkit.cli import console
    from llmkit.errors import LlmkitError
    from llmkit.translation.documents.formats import open_document
    from llmkit.translation.markup import strip

    try:
        document, data = open_document(name, "fr", encoding)
        same = document.build([None for _ in document.segments])
        again = document.build([segment.text for segment in document.segments])
        if same != again:
            raise AssertionError("left as it is and translated into itself differ")
        shouted = []
        for segment in document.segments[:2000]:
            strip(segment.text, document.keep)
            shouted.append(segment.text.upper() if document.keep.problem(segment.text, segment.text.upper()) is None else None)
        document.build([*shouted, *[None for _ in document.segments[2000:]]])
    except LlmkitError as exc:
        console.error(exc)
        return exc.exit_code
    if encoding == "utf-8" and same != data and not name.endswith((".pot", ".po", ".html", ".docx", ".xlf")):  # they name the language
        raise AssertionError("left as it is, the document has other bytes")
    return 0


def _word(chance: Random) -> bytes:
    """An archive with the parts of a Word document, damaged outside or inside."""
    content = _WORD.encode()
    if chance.random() < 0.6:
        content = harmed(chance, content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", chance.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
        archive.writestr(chance.choice(("word/document.xml",) * 9 + ("../document.xml",)), content)
        archive.writestr("word/header1.xml", _WORD.replace("king", "head"))
        archive.writestr("docProps/core.xml", "<a/>" if chance.random() < 0.5 else harmed(chance, b"<a><title>x</title></a>"))
        if chance.random() < 0.1:
            archive.writestr("word/media/zeros", b"\0" * 3_000_000)
    data = file.getvalue()
    return harmed(chance, data) if chance.random() < 0.5 else data
