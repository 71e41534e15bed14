"""Lines of a paragraph that are structure: alerts, attributes, template marks, contents, fences of containers; and the titles in them.

Knows lines; not blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmkit.translation.documents import messages
from llmkit.translation.documents.base import Span, joined, with_marks
from llmkit.translation.placeholders import IN_PROSE, STATEMENT

#: Options of MyST's directives.
_OPTIONS = (
    r":(?:class|name|width|height|align|alt|open|icon|color|link|link-type|columns|gutter|margin|padding|target|label|widths"
    r"|header-rows|sync|selected|class-\w+):(?:[ \t][^\n]*)?"
)
#: Lines of a paragraph that are structure: alerts, attributes, template marks, contents, fences of containers, abbreviations, labels.
STRUCTURE = re.compile(
    rf"\s*(?:\[![A-Za-z]+\][+-]?|\{{[:#.][^{{}}\n]*\}}|/{{3,}}[^\n]*|\([\w.:-]+\)=|%[ \t][^\n]*|{_OPTIONS}"
    rf"|;?-{{2,}}8<-{{2,}}[^\n]*|<<<[ \t]*[@.~/\w][^\n]*|(?:(?:\{{\{{(?:[^{{}}\n]|\{{(?!\{{)|\}}(?!\}}))*+\}}\}}|{STATEMENT}"
    rf"|<%(?![=-])(?:[^%\n]|%(?!>))*+%>|\{{#[^{{}}\n]*#\}})[ \t]*+)++"
    r"|\[TOC\]|\[\[_?TOC_?\]\]|:{3,}[^\n]*|\*\[[^\]\n]+\]:[^\n]*|\{/?<[^\n]*|\{/?%(?:(?!%\})[^\n])*+)\s*",
    re.IGNORECASE,
)
MODULE = re.compile(r"(?:import\s[^'\"]*+['\"].*['\"];?|export\s+(?:const|let|var|function|default|class|async|\{|\*).*)\s*", re.DOTALL)
#: What a block's text begins with: the box of a task, the colon of a definition behind a blank line, a bar.
TASK = re.compile(r"\[[^\[\]\n]\]\s+|[:|][ \t]+(?=\S)")
#: Each of Pandoc's lines that stay lines.
LINE_BLOCK = "| "
#: The titles in the calls of Hugo, GitBook and Jekyll: {{< figure caption="A house" >}}, {{% notice tip "A house" %}}.
_CALL = re.compile(r"\{\{[<%]\s*+(?!/)[\w./-]+|\{%-?\s*+(?!(?:set|assign|capture|if|unless|elif|elsif|when|for|case)\b)\w[\w.-]*")
_TITLES = (
    r"(?<![\w.-])(?:title|subtitle|caption|alt|label|header|heading|summary|description|tooltip|text)\s*=\s*|(?<=[<%]\stab\s)name="
    r"|(?<=[<%]\s)(?:expand|details|tab|accordion|notice\s+[\w-]+)\s+"
)
_TITLE = re.compile(rf"""(?:{_TITLES})(?P<quote>["'])(?P<title>(?:(?!(?P=quote))[^\n\\{{}}])+)(?P=quote)""")


def by_structure(text: str) -> tuple[list[str], str]:
    """The lines of a block that are structure, and its prose."""
    if MODULE.fullmatch(text):
        return [text], ""
    lines = text.split("\n")
    structure = [without_titles(line.strip()) for line in lines if STRUCTURE.fullmatch(line)]
    prose = "\n".join(line for line in lines if not STRUCTURE.fullmatch(line))
    task = TASK.match(prose)
    structure += [LINE_BLOCK for line in prose.split("\n")[1:] if line.startswith(LINE_BLOCK)]
    return [*structure, task.group() if task else ""], prose[task.end() if task else 0 :]


def titles(text: str) -> Iterator[Span]:
    """The titles in a template's calls, each at its place in `text`."""
    for call in _CALL.finditer(text):
        end = text.find("}", call.end())
        for match in _TITLE.finditer(text, call.start(), end if end >= 0 else len(text)):
            if messages.is_text(match["title"]):
                prose, marks = joined(with_marks(match["title"], IN_PROSE))
                yield Span(*match.span("title"), prose, marks, f"template {match['quote']}")


def without_titles(text: str) -> str:
    """A text with its templates' titles left out."""
    for span in reversed(list(titles(text))):
        text = text[: span.begin] + text[span.end :]
    return text
