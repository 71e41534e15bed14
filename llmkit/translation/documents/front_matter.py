"""Front matter of pages, in YAML, TOML, JSON or Pandoc's lines: the title and other texts that people read; all else stays.

Which keys those are, the makers of sites say: Hugo, Jekyll, Docusaurus, VitePress, MkDocs, Quarto. Tags and categories are part of
addresses. Knows front matter; not Markdown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from llmkit.errors import InputError
from llmkit.translation.documents import messages, yaml_messages
from llmkit.translation.documents.base import Segment, Span, joined, with_marks
from llmkit.translation.documents.edits import masked
from llmkit.translation.documents.yaml_messages import Scalar
from llmkit.translation.placeholders import IN_PROSE

#: Keys whose values people read, in small letters without - and _.
_SHOWN = frozenset(
    ("title", "subtitle", "description", "summary", "excerpt", "abstract", "tagline", "lead", "caption", "linktitle", "navtitle",
     "shorttitle", "seotitle", "metatitle", "metadescription", "ogtitle", "ogdescription", "pagetitle", "toctitle", "sidebartitle",
     "sidebarlabel", "paginationlabel", "heading", "subheading", "headline", "details", "alt", "imagealt", "teaser", "blurb",
     "hero", "text", "linktext")
)  # fmt: skip
_FRONT = re.compile(
    r"\ufeff?(?:---[ \t]*\r?\n.*?\r?\n(?:---|\.\.\.)|\+\+\+[ \t]*\r?\n.*?\r?\n\+\+\+|\{[ \t]*\r?\n\s*\".*?\r?\n\}"
    r"|%[ \t]+\S[^\n]*(?:\n(?:%|[ \t]+\S)[^\n]*){0,6})[ \t]*(?:\r?\n|\Z)",
    re.DOTALL,
)
_TOML = re.compile(
    r"""^[ \t]*(?:[\w-]+\.)*"?(?P<key>[\w-]+)"?[ \t]*=[ \t]*"""
    r"""(?P<value>\"{3}(?:[^"\\]|\\.|"(?!""))*+\"{3}|'{3}(?:[^']|'(?!''))*+'{3}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*(?:\#[^\n]*)?$""",
    re.MULTILINE,
)
#: A string of TOML over several lines.
_SEVERAL = re.compile(r"(\"{3}|'{3})(\r?\n)?")
_JSON = re.compile(r'"(?P<key>[\w-]+)"\s*:\s*(?P<value>"(?:[^"\\\n]|\\.)*")')
_YAML = re.compile(r"\ufeff?---[ \t]*\r?\n")
#: The first of Pandoc's lines of title, authors and date.
_TITLE = re.compile(r"\ufeff?%[ \t]+([^\n]*\S(?:[ \t\r]*\n[ \t]+[^\n]*\S)*)")
_MARKS = re.compile(rf"`[^`\n]+`|{IN_PROSE.pattern}")


def end_of(page: str) -> int:
    """Where a page begins, behind its front matter or byte order mark."""
    front = _FRONT.match(page)
    return front.end() if front else len(page) - len(page.lstrip("\ufeff"))


def spans(front: str) -> Iterator[Span]:
    """The texts of front matter, with the marks around it, that people read. What can't be read has none."""
    if opening := _YAML.match(front):
        yield from _yaml(front, opening.end())
        return
    if title := _TITLE.match(front):
        yield _span(*title.span(1), " ".join(title[1].split()), "title")
        return
    pattern = _JSON if front.lstrip("\ufeff").startswith("{") else _TOML
    for match in pattern.finditer(front.replace("\r", " ")):
        text = _read(match["value"])
        if _is_shown(match["key"]) and text is not None and messages.is_text(text):
            yield _span(*match.span("value"), text, "quoted")


def _yaml(front: str, begin: int) -> Iterator[Span]:
    body = front[begin : front.rstrip().rfind("\n") + 1]
    try:
        _, scalars = yaml_messages.read(body, "")
    except InputError:
        return
    for scalar in scalars:
        if _is_shown(scalar.key) and messages.is_text(scalar.text):
            how = f"yaml {scalar.style or '-'} {int(scalar.flow)} {scalar.indent}"
            yield _span(begin + scalar.begin, begin + scalar.end, scalar.text, how)


def _is_shown(key: str) -> bool:
    return key.lower().replace("_", "").replace("-", "") in _SHOWN


def _span(begin: int, end: int, text: str, how: str) -> Span:
    return Span(begin, end, *joined(with_marks(text, _MARKS)), f"front {how}")


def _read(value: str) -> str | None:
    """A string of TOML or JSON, None for one with escapes that JSON does not have."""
    if value.startswith("'''"):
        return _lines(value)
    if value.startswith('"""'):
        value = '"' + re.sub(r'(?<!\\)"', r"\"", _lines(value)) + '"'
    try:
        return value[1:-1] if value[0] == "'" else str(json.loads(value, strict=False))
    except ValueError:
        return None


def _lines(value: str) -> str:
    """What stands between three quotes; a line end behind the first ones is none of it."""
    return re.sub(r"[ \r]*\n", "\n", value[3:-3]).removeprefix("\n")


def write(text: str, segment: Segment) -> str:
    """A translation as its value is written."""
    how = segment.kind.split(" ")
    if how[1] == "yaml":
        style, flow, indent = how[2:]
        scalar = Scalar(0, len(segment.raw), segment.text, None if style == "-" else style, flow == "1", int(indent))
        return yaml_messages.encoded(text, scalar=scalar, raw=segment.raw)
    if how[1] == "title":
        return " ".join(text.split())
    if opened := _SEVERAL.match(segment.raw):
        quote = '"""' if opened[1] == '"""' or "'''" in text else "'''"
        escaped = text.replace("\\", "\\\\").replace('"', '\\"') if quote == '"""' and ('"""' in text or "\\" in text) else text
        return f"{quote}{opened[2] or ''}{escaped}{quote}".replace("\n", "\r\n" if "\r\n" in segment.raw else "\n").replace("\r\r", "\r")
    return f"'{text}'" if segment.raw[0] == "'" and not re.search(r"['\n]", text) else json.dumps(text, ensure_ascii=False)


def skeleton(front: str) -> list[object]:
    """All but the texts, and the placeholders in them."""
    parts = list(spans(front))
    return [masked(front, [(span.begin, span.end) for span in parts]), [[span.text[a:b] for a, b in span.marks] for span in parts]]
