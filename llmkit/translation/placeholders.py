"""Placeholders and the like inside prose: what a program puts something in for, or what a model must not change.

Knows texts; not formats or models.
"""

from __future__ import annotations

import re

#: printf (C, Python, Objective-C, with positions, lengths and %%), without the flag " ", which "100% of" would match.
PRINTF = r"%(?:\d++\$)?(?:\(\w+\))?[-+0#']*+(?:\d++|\*)?(?:\.(?:\d++|\*))?(?:hh|ll|[hlLqjzt])?[diouxXeEfFgGaAcsSpn@](?![A-Za-z]{2})|%%"
#: Qt's %1, %L2, %n.
QT = r"%L?\d{1,2}(?![\d%])"
#: {% if %}; what never ends is looked at up to where the next one begins, so that many of them cost no more than one.
STATEMENT = r"\{%(?:[^{%\n]|\{(?!%)|%(?!\}))*+%\}"
#: Templates: {{ x }}, {% if %}, {# note #}, <% x %>, <?php x ?>.
TEMPLATE = rf"\{{\{{[^{{}}\n]*\}}\}}|{STATEMENT}|" r"\{#[^\n{}]*#\}|<%[^<>\n]*%>|<\?[^<>\n]*\?>"
#: Python's {user.name}, {n:.2f}, {0!r}, {a[0]}, {x:>{width}}; JavaScript's ${x}; {{ as itself.
BRACE = r"\$?\{(?!\s)[\w.\[\]!'\"]*(?::(?:[^{}\n]|\{\w*\})*)?\}|\{\{|\}\}"
#: ICU's {n, plural, one {# cat} other {# cats}}, {sex, select, ...}, {when, date, short}; branches may hold others.
_NESTED = r"(?:[^{}]++|\{(?:[^{}]++|\{(?:[^{}]++|\{[^{}]*+\})*+\})*+\})*+"
ICU = rf"\{{\s*\w+\s*,\s*(?:plural|selectordinal|select|number|date|time|list|spellout|ordinal|duration)\b{_NESTED}\}}"
_URL = r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)]"
_MAIL = r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
#: GitHub's :+1: and :tired_face:.
EMOJI = r"(?<![\w:]):(?:\+1|-1|[a-z][\w+-]*):(?![\w:])"
_COMMON = f"{TEMPLATE}|{ICU}|{BRACE}|{_URL}|{_MAIL}"

#: In any document.
PLACEHOLDER = re.compile(f"{_COMMON}|{PRINTF}|{QT}")
#: In prose that is no program's: a percent sign is one.
IN_PROSE = re.compile(f"{_COMMON}|{EMOJI}|{PRINTF}")
#: In entries whose format flag says what it is.
BY_FLAG = {
    "c-format": re.compile(f"{_URL}|{_MAIL}|{PRINTF}|% [-+0#]*\\d*[diouxXeEfFgGcs]"),
    "python-brace-format": re.compile(f"{_COMMON}"),
    "sh-format": re.compile(f"{_URL}|{_MAIL}|\\$\\{{\\w+\\}}|\\$\\w+"),
    "qt-format": re.compile(f"{_URL}|{_MAIL}|%n|{QT}"),
}
