"""Placeholders and the like inside prose: what a program puts something in for, or what a model must not change.

Knows texts; not formats or models.
"""

from __future__ import annotations

import re

#: printf (C, Python, Java, Objective-C, with names, positions, lengths and %%), without the flag " ", which "100% of" would match.
PRINTF = (
    r"%(?:\d++\$)?(?:\([^()%\n]{1,60}\))?[-+0#',]*+(?:\d++|\*(?:\d++\$)?)?(?:\.(?:\d++|\*(?:\d++\$)?)?)?"
    r"(?:(?:hh|ll|I64|I32|[hlLqjzt])?[diouxXeEfFgGaAcsSpn@](?![A-Za-z]{2})|<PRI[A-Za-z0-9]+>)|%\d++\$[tT][A-Za-z](?![A-Za-z])|%%"
)
#: Dates as programs write them: %A, %B %e, %Y. One of the directives is none of printf's.
_DIRECTIVE_OF_DATES = r"%[-_0^#EO]*[a-zA-Z](?![A-Za-z])"
DATE = (
    rf"(?=(?:{_DIRECTIVE_OF_DATES}[ ,./:-]*+){{0,12}}?%[-_0^#EO]*[bBDHIjkmMPrRTUVwWyYzZ](?![A-Za-z]))"
    rf"{_DIRECTIVE_OF_DATES}(?:[ ,./:-]++{_DIRECTIVE_OF_DATES})++"
)
#: Qt's %1, %L2, %n.
QT = r"%L?\d{1,2}(?![\d%])"
#: {% if %}; what never ends is looked at up to where the next one begins, so that many of them cost no more than one.
STATEMENT = r"\{%(?:[^{%\n]|\{(?!%)|%(?!\}))*+%\}"
#: What ends a section of Mustache and begins the one for nothing.
_SECTIONS = r"\{\{[~\s]*/[\w./-]+[~\s]*\}\}\s?\{\{[~\s]*\^[\w./-]+[~\s]*\}\}"
#: Templates: {{{ x }}}, {{ x }}, {% if %}, {# note #}, <% x %>, <?php x ?>; of Angular, Smarty, mailings: [[ x ]], {$x}, *|X|*, %%x%%;
#: of WordPress, Maven, Symfony: ###X###, [gallery ids="1"], @x@, %name%.
TEMPLATE = (
    rf"{_SECTIONS}|"
    r"\{%-?\s*comment\b[^{}%\n]*%\}[^\n]{0,500}?\{%-?\s*endcomment\s*-?%\}|"
    rf"\{{\{{\{{[^{{}}\n]*\}}\}}\}}|@?\{{\{{(?:[^{{}}\n]++|\{{(?!%)[^{{}}\n]*+\}})*+\}}\}}|{STATEMENT}|"
    r"\{#[^\n{}]*#\}|<%[^<>\n]*%>|<\?[^<>\n]*\?>|\[\[ [^\[\]\n]* \]\]|\{\$[^\s{}][^{}\n]*\}|\*\|[^|\n]{1,60}\|\*|%%\w+%%|"
    r"\[[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\]|###\w+###|(?<![%\w])%[A-Za-z_][\w.-]+%(?![%\w])|(?<!\w)@[A-Za-z][\w.-]*@(?!\w)|"
    r"\[[a-z][\w-]*(?:\s+[\w-]+=(?:\"[^\"\n]*\"|'[^'\n]*'|[\w.,:/-]+))++\s*/?\]|\[/[a-z][\w-]+\]"
)
#: What stands between two texts of which one is shown: {% else %}, {{else}}, {{/a}}{{^a}}.
ALTERNATIVE = re.compile(
    r"\{%[-+]?\s*(?:else|elif|elsif|elseif|when|empty|plural)\b[^{}%\n]*%\}|\{\{[~\s]*else\b[^{}\n]*\}\}"
    rf"|{_SECTIONS}"
)
#: The same in programs of PHP and Ruby in pages.
ELSE = re.compile(r"<(?:\?(?:php)?\s*+\}?|%[-=]?)\s*+els(?:e|if|eif)\b")
_INSIDE = r"(?:[^()\n]++|\((?:[^()\n]++|\([^()\n]*+\))*+\))*+"
#: Blocks of Angular and Razor, which end with a brace: @if (a > b) {; and Blade's directives.
_BLOCK = (
    r"(?:\}\s*+)?@(?:if|else(?:[ \t]+if)?|for|foreach|while|using|empty|switch|case|default|defer|placeholder|loading|error)\b"
    rf"\s*+(?:\({_INSIDE}\)\s*+)?\{{|\}}\s*+else\b\s*+(?:if\s*+\({_INSIDE}\)\s*+)?\{{"
)
_BLOCKS = re.compile(_BLOCK)
_DIRECTIVE = rf"@(?:(?:if|elseif|unless|isset|empty|for|foreach|forelse|while|switch|case|can)\b[ \t]*|[a-z]\w*)\({_INSIDE}\)"
#: In messages that are Markdown, reStructuredText (as those of Sphinx) or HTML: ``code``, `code`, :ref:`name`, :ref:`, <name>`, |name|,
#: <code>x</code>, *, **, [, ](address), Apple's ^[ and ](inflect: true); and the signs of lists, at the beginning of lines.
MARKS_IN_MESSAGES = (
    r"(?m:^[ \t]*[-*•–][ \t]+(?=\S))|"
    r"<(?:code|kbd|samp|var)\b[^<>]*>[^<>]*</(?:code|kbd|samp|var)\s*>|(?<![\w*])\*\*?(?=[^\s*])|(?<=[^\s*])\*\*?(?![\w*])"
    r"|[!^]?\[(?=[^\[\]\n]+\]\((?:[^()\s]+|[a-z]\w*:[^()\n]+)\))|(?<=\S)\]\((?:[^()\s]+|[a-z]\w*:[^()\n]+)\)|"
    r"``(?:[^`\n]|`(?!`))+``|:[a-zA-Z][\w:.+-]*:`(?:[^`<\n]*`|(?=[^`\n]*<))|[ ]?<[^<>`\n]+>`(?:__?)?"
    r"|(?<!`)`[^`<>'\n]+`(?:__?)?(?![`\w])|(?<!\w)\|[A-Za-z][\w-]*\|_?(?!\w)"
)
#: Tags and character references; also numbered tags (react-i18next).
TAGS = r"</?[a-zA-Z][^<>]*>|<!--(?:[^-<]++|-(?!->)|<(?!!--))*+-->|&#?\w+;"
MARKUP = rf"{TAGS}|</?\d*/?>"
#: In prose, where "a <b and c> d" holds none.
TAGS_IN_PROSE = (
    r"</?[a-zA-Z][\w:.-]*(?:\s+[\w:@.-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=]+))*+\s*/?>|&#?\w+;"
    r"|<!--(?:[^-<]++|-(?!->)|<(?!!--))*+-->"
)
#: A shell's $HOME; names of people, tickets and tags: @tom, @<Tom S>, #12, !12, #red/house.
_NAMED = r"(?<![\w$\\])\$[A-Za-z_]\w*+(?![\w$])|(?<![\w&#@/.\\])[@#][A-Za-z0-9](?:[\w/:-]*\w)?|(?<!\w)@<[^<>\n]{1,60}>|(?<![\w!])!\d+(?!\w)"
#: Names in a program: my_house, my_house.py, MY_HOUSE=1, --color=red; files: src/main.c, README.md.
_FILE = (
    r"(?:py|ipynb|[cm]?[jt]sx?|mdx?|rst|txt|jsonl?|ya?ml|toml|xml|html?|s?css|sh|bash|[ch](?:pp)?|java|go|rs|rb|php|sql|[ct]sv|ini|cfg|conf"
    r"|log|exe|dll|zip|gz|tar|pdf|docx?|xlsx?|pptx?|odt|epub|png|jpe?g|gif|svg|mp[34]|wav|srt|vtt|po)"
)
_CODE = (
    r"(?<![\w./-])(?:[A-Za-z0-9]++(?:_[A-Za-z0-9]+)++(?:\.\w+)*+(?:\(\)|=[\w.-]*\w)?|--[a-z][\w-]*\w(?:=[\w.-]*\w)?"
    r"|[A-Za-z]\w*+(?:\.\w++)*+\(\)"
    rf"|(?:[\w-]+[./])*[\w-]+\.{_FILE})(?!\w)"
)
CODE = re.compile(_CODE)
#: Checksums and identifiers: a5c3785ed8d6a358, 123e4567-e89b-12d3-a456-426614174000.
_HASH = (
    r"(?<![\w-])(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|(?=[0-9a-f]{0,60}[0-9])(?=[0-9a-f]{0,60}[a-f])[0-9a-f]{7,128})(?![\w-])"
)
#: Laravel's :name.
_COLON = r"(?<![^\s(\[\"'>]):[a-z_]\w*+(?![\w:])"
#: Python's {user.name}, {n:.2f}, {0!r}, {a[0]}, {x:>{width}}; JavaScript's ${x} and ${ x }; Ruby's #{x} and %{x}; {{ as itself.
BRACE = r"\$\{\s*[\w.]+\s*\}|[$#%]?\{(?!\s)[\w.\[\]!'\"]*(?::(?:[^{}\n]|\{\w*\})*)?\}|\{\{|\}\}"
#: ICU's {n, plural, one {# cat} other {# cats}}, {sex, select, ...}, {when, date, short}; branches may hold others.
_NESTED = r"(?:[^{}]++|\{(?:[^{}]++|\{(?:[^{}]++|\{[^{}]*+\})*+\})*+\})*+"
ICU = rf"\{{\s*\w+\s*,\s*(?:plural|selectordinal|select|choice|number|date|time|list|spellout|ordinal|duration)\b{_NESTED}\}}"
#: A formula as \\(x_i\\), up to the first mark that ends it or begins another; without a sign of mathematics it is prose in parentheses.
_IN_FORMULA = r"\\(?!\\?[()])"
FORMULA = rf"\\\\?\((?=[^\n\\_^=+{{}}]*+(?:[_^=+{{}}]|{_IN_FORMULA})|\w\\)(?:[^\n\\]|{_IN_FORMULA})++\\\\?\)"
#: The same as \[x = y\].
DISPLAY = r"\\\\?\[(?=[^\\=^{}\[\]]*+(?:[=^{}]|\\[a-zA-Z]))(?:[^\\\[\]]|\\(?!\\?[\[\]]))++\\\\?\]"
#: The same as $x_i$ and $$x = y$$; a dollar with a number behind it, or a word before it, is money.
_DOLLARS = (  # what stands before is looked at behind the first sign, which most places do not have
    r"\$(?<![\w$\\].)(?:\$(?=\S)[^$\n]{1,500}(?<=\S)\$\$|(?=\S)(?=[A-Za-z]{1,2}\$|[^$\n]*[_^=+<>\\{}])[^$\n]{1,300}(?<=\S)\$)(?![\w$])"
)
_MATH = f"{FORMULA}|{DISPLAY}|{_DOLLARS}"
#: An address; parentheses that are closed are part of it.
_URL = (
    r"(?:(?:https?|ftp)://|(?<![\w.])www\.(?=\w))(?:[^\s<>\"'\]()]|\([^\s<>\"'()\]]*\))*"
    r"(?:[^\s<>\"'.,;:!?()\]]|\([^\s<>\"'()\]]*\))"
)
#: Keys that are pressed together.
_KEYS = r"(?<!\w)(?:Ctrl|Control|Alt|AltGr|Shift|Cmd|Command|Option|Meta|Super|Win)(?:\+[A-Za-z0-9]\w*+)++"
#: /usr/bin/x, ~/.bashrc, ./run.sh, C:\temp\new, also where a backslash is written as two.
_BEFORE_PATH = r"(?<![\w./~<:\\-].)"
_PATH = (
    rf"/{_BEFORE_PATH}[\w+@-][\w.+@-]*+(?=/)(?:/[\w.+@-]*[\w+@-])++/?|[~.]{_BEFORE_PATH}\.?(?:/[\w.+@-]*[\w+@-])++/?"
    rf"|[A-Za-z]{_BEFORE_PATH}:(?:\\\\(?:[\w.+@-]*[\w+@-](?:\\\\)?)*+|\\(?!\\)(?:[\w.+@-]*[\w+@-](?:\\(?!\\))?)*+)"
)
_MAIL = r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
#: GitHub's :+1: and :tired_face:.
EMOJI = r"(?<![\w:]):(?:\+1|-1|[a-z][\w+-]*):(?![\w:])"
_PICTURE = (
    "[\u00a7\u00a9\u00ae\u00b1\u00b6\u00d7\u00f7\u2020-\u2023\u203c\u2049\u2120\u2122\u2190-\u23ff\u2460-\u27bf"
    "\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff]"
)
_VARIED = "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*+"
#: Emoji, arrows, signs of mathematics, ©, ™, bullets: models have no words for them and write others, or none.
SYMBOL = rf"(?:[0-9#*]\ufe0f?\u20e3|{_PICTURE}{_VARIED}(?:\u200d{_PICTURE}{_VARIED})*+)++"
SYMBOL_ALONE = re.compile(SYMBOL)
_COMMON = f"{TEMPLATE}|{_MATH}|{DATE}|{ICU}|{BRACE}|{_URL}|{_PATH}|{_MAIL}|{_KEYS}|{_HASH}|{SYMBOL}"

#: In any document.
PLACEHOLDER = re.compile(f"{_COMMON}|{_NAMED}|{_COLON}|{PRINTF}|{QT}")
#: In prose that is no program's: a percent sign is one.
IN_PROSE = re.compile(f"{_COMMON}|{_NAMED}|{_CODE}|{EMOJI}|{PRINTF}")
#: Razor's @Model.Name and @(x), Svelte's {#if x}, {/if}, {@html x}, Smarty's {if $x} and {* note *}, Thymeleaf's [[${x}]].
_OF_PAGES = (
    rf"@\({_INSIDE}\)|(?<![\w@])@[A-Za-z_]\w*+(?:\??\.[A-Za-z_]\w*+|\({_INSIDE}\)|\[[^\[\]\n]*+\])++|\{{[#:/@][a-z][^{{}}\n]*+\}}"
    r"|\{[a-z]++\s[^{}\n$=]*+[$=][^{}\n]*+\}|\{\*[^*\n]*+\*\}|\[[\[(][$*#@]\{[^{}\n]*+\}[\])]\]"
)
#: In the prose of pages.
IN_PAGES = re.compile(f"{_DIRECTIVE}|{_OF_PAGES}|{IN_PROSE.pattern}")
_WEB = f"{_URL}|{_PATH}|{_MAIL}|{_KEYS}|{SYMBOL}"
_LISP = rf"{_WEB}|~(?:(?:[-+]?\d+|'.|[vV#])(?:,(?:[-+]?\d+|'.)?)*)?[:@]*[a-zA-Z%&|~{{}}\[\]();<>^$*?](?![a-z])"
#: In a text of no format, which may be about anything: what is surely no prose.
IN_TEXTS = re.compile(f"{TEMPLATE}|{_MATH}|{ICU}|{BRACE}|{_WEB}|{TAGS_IN_PROSE}|{_NAMED}|{_CODE}|{EMOJI}|{PRINTF}|(?<!`)`[^`\\n]+`(?!`)")
#: In entries whose format flag says what it is: https://www.gnu.org/software/gettext/manual/html_node/List-of-Programming-Languages.html
BY_FLAG = {
    "c-format": f"{_WEB}|{DATE}|{PRINTF}|% [-+0#]*\\d*[diouxXeEfFgGcs]",
    "c++-format": _COMMON,
    "objc-format": f"{_COMMON}|{PRINTF}",
    "python-format": f"{_COMMON}|{PRINTF}|%(?:\\(\\w+\\))?[-+0#]*\\d*r(?![A-Za-z])",
    "php-format": rf"{_COMMON}|{PRINTF}|%(?:\d+\$)?[-+]?(?:0|'.)?\d*(?:\.\d+)?[bcdeEfFgGosuxX](?![A-Za-z]{{2}})",
    "ruby-format": f"{_COMMON}|%<\\w+>[-+0#]*\\d*(?:\\.\\d+)?[a-zA-Z]|%\\{{\\w+\\}}|{PRINTF}",
    "gcc-internal-format": f"{_WEB}|%[<>']|%[qlw+#]*(?:\\.\\*)?[a-zA-Z](?![A-Za-z]{{2}})|%%",
    "gfc-internal-format": f"{_WEB}|%[<>]|%q?(?:\\d+\\$)?[ilu]?[CLdiscuqe](?![A-Za-z]{{2}})|%%",
    "lisp-format": _LISP,
    "scheme-format": _LISP,
    "librep-format": f"{_WEB}|{PRINTF}",
    "elisp-format": f"{_WEB}|{PRINTF}",
    "java-printf-format": f"{_COMMON}|{PRINTF}|%[-+0#,(<]*\\d*(?:\\.\\d+)?(?:[bBhHsSnc]|[tT][A-Za-z])(?![A-Za-z]{{2}})",
    "javascript-format": f"{_COMMON}|{PRINTF}|%j(?![A-Za-z]{{2}})",
    "go-format": f"{TEMPLATE}|{_WEB}|{PRINTF}|%[-+# 0]*(?:\\[\\d+\\])?\\d*(?:\\.\\d+)?[vTtqbxXUdsefgcopw](?![A-Za-z]{{2}})",
    "lua-format": f"{_WEB}|{PRINTF}|%q(?![A-Za-z]{{2}})",
    "d-format": f"{_WEB}|%\\([^%\\n]*%[^()\\n]*%\\)|{PRINTF}",
    "sh-printf-format": f"{_WEB}|{PRINTF}|%b(?![A-Za-z]{{2}})",
    "object-pascal-format": f"{_WEB}|%(?:\\d+:)?-?\\d*(?:\\.\\d+)?[dDuUxXeEfFgGnNmMpPsS](?![A-Za-z]{{2}})|%%",
    "boost-format": f"{_COMMON}|%\\d+%|%\\|[^|\\n]*\\||{PRINTF}",
    "python-brace-format": _COMMON,
    "perl-brace-format": _COMMON,
    "csharp-format": rf"{_COMMON}|\{{\d+(?:,-?\d+)?(?::[^{{}}\n]*)?\}}",
    "sh-format": f"{_WEB}|\\$\\{{\\w+\\}}|\\$\\w+",
    "qt-format": f"{_WEB}|%n|{QT}",
    "qt-plural-format": f"{_WEB}|%n|{QT}",
    "kde-format": f"{_COMMON}|{QT}",
}


_IN_TEMPLATES = re.compile(
    rf"{ALTERNATIVE.pattern}|\{{:?(?:else|elseif|foreachelse|then|catch)\b[^{{}}\n]*\}}"
    rf"|@else(?:if\b[ \t]*\({_INSIDE}\)|\b(?![ \t]*(?:if\b|\{{)))"
)
_WITH_BLOCKS = re.compile(rf"{_BLOCK}|{_IN_TEMPLATES.pattern}|(?:(?<=\s)|\A)\}}(?=\s|\Z)")


def cuts(page: str) -> re.Pattern[str]:
    """What stands between two texts of a page that are no neighbors, because a program shows one of them, or each several times."""
    return _WITH_BLOCKS if _BLOCKS.search(page) else _IN_TEMPLATES
