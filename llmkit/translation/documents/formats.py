"""Document formats by the ending of the file's name. A new one is a module here and its line in `FORMATS`.

Other packages add theirs as entry points of the group `llmkit.documents`: the ending as the name (".rst"), and a function
`parse(data, name, target)` that gives a Document.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from llmkit.errors import InputError
from llmkit.files import read_at_most
from llmkit.rows.text import text_decoder
from llmkit.translation.documents.base import Document

#: Ending → module, whose `parse(data, name, target)` gives a Document.
FORMATS = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdx": "markdown",
    ".html": "html",
    ".htm": "html",
    ".srt": "subtitles",
    ".vtt": "subtitles",
    ".po": "gettext",
    ".pot": "gettext",
    ".docx": "docx",
    ".pptx": "pptx",
    ".xlsx": "xlsx",
    ".odt": "odt",
    ".epub": "epub",
    ".xlf": "xliff",
    ".xliff": "xliff",
    ".xml": "android",
    ".strings": "apple",
    ".xcstrings": "xcstrings",
    ".properties": "properties",
    ".ass": "ass",
    ".ssa": "ass",
    ".tex": "tex",
    ".rst": "rst",
    ".json": "json_messages",
    ".arb": "json_messages",
    ".yaml": "yaml_messages",
    ".yml": "yaml_messages",
}
#: Formats whose output may have another ending than the input: a template of a catalog becomes a catalog.
BECOMES = {".pot": (".pot", ".po"), ".md": (".md", ".markdown", ".mdx"), ".html": (".html", ".htm"), ".htm": (".html", ".htm")}
#: Documents that are not read, and what makes one that is.
INSTEAD = {
    **dict.fromkeys((".doc", ".rtf", ".pages"), "save it as .docx or .odt"),
    **dict.fromkeys((".ppt", ".odp", ".key"), "save it as .pptx"),
    **dict.fromkeys((".xls", ".ods", ".numbers"), "save it as .xlsx, or as .csv for its rows"),
    ".pdf": "translate what it was made of",
    ".ts": "Qt's lconvert makes a .po or .xlf of it: lconvert -i NAME.ts -o NAME.po",
    ".resx": "convert it to .xlf or .po",
    ".adoc": "po4a makes a .po of it",
    **dict.fromkeys(
        (".vue", ".astro", ".php", ".vm", ".ftl", ".jsp", ".ejs", ".erb", ".twig", ".hbs", ".mustache", ".liquid", ".njk", ".j2", ".tmpl"),
        "a page: copy it to a name in .html",
    ),
    ".sbv": "save it as .srt or .vtt",
    ".mo": "msgunfmt makes a .po of it: msgunfmt NAME.mo -o NAME.po",
    **dict.fromkeys((".sdlxliff", ".mqxliff", ".mxliff"), "it is XLIFF: copy it to a name in .xlf"),
}
#: Files that are no text.
BINARY = frozenset((".docx", ".pptx", ".xlsx", ".odt", ".epub"))
#: Text files that say their encoding themselves.
DECLARED = frozenset((".xlf", ".xliff", ".xml"))
#: ... or whose format has rules for it, where the user names none.
_OWN_RULES = frozenset((".strings", ".properties"))
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Larger documents are not held in memory.
_MOST = 200_000_000


def is_document(path: str) -> bool:
    """Whether the name's ending is that of a document format."""
    ending = Path(path).suffix.lower()
    return ending in FORMATS or bool(_others(ending))


def holds_rows(path: str) -> bool:
    """Whether a .json file is no object of messages: a list of rows, which `llmkit.rows` reads."""
    if Path(path).suffix.lower() != ".json":
        return False
    try:
        with Path(path).open("rb") as file:
            return not file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith((b"{", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    except OSError:
        return True


def open_document(
    path: str, target: str | None = None, encoding: str = "utf-8", ending: str | None = None, **how: bool
) -> tuple[Document, bytes]:
    """The document and the bytes of its file, or of standard input. target: the tag of its language, for headers that name it.

    encoding: of text files; a byte order mark of UTF-16 wins. What is written is UTF-8. ending: the format, where the name does not tell
    it. how: what a format's parser knows beside. Raises InputError for a file that can't be read or is not of its format.
    """
    data = _read(path)
    if ending is None:
        ending = Path(path).suffix.lower()
    else:  # as part of the name it tells a parser which dialect it is
        path = f"{'standard input' if path == '-' else path} as {ending}"
    if FORMATS.get(ending) == "html" and not data.startswith(_UTF_16) and _utf8(data, path, encoding) != data:
        return _parser(ending)(data, path, target, encoding=encoding), data  # a page declares its encoding, and keeps it
    as_it_is = ending in BINARY or ending in DECLARED or (ending in _OWN_RULES and encoding == "utf-8")
    document: Document = _parser(ending)(data if as_it_is else _utf8(data, path, encoding), path, target, **how)
    return document, data


def _read(path: str) -> bytes:
    """The bytes of a file, or of standard input ('-'). Raises InputError."""
    if path == "-" and (sys.stdin is None or sys.stdin.closed):
        raise InputError("standard input is closed", hint="pipe a document in, or name a file with `input`")
    try:
        if path != "-":
            return read_at_most(Path(path), _MOST)
        if len(data := sys.stdin.buffer.read(_MOST + 1)) > _MOST:
            raise OSError(errno.EFBIG, f"has more than {_MOST:,} bytes")
        return data
    except OSError as exc:
        hint = "split it into several files" if exc.errno == errno.EFBIG else None
        raise InputError(f"cannot be read: {exc.strerror}", path="standard input" if path == "-" else path, hint=hint) from exc


def _parser(ending: str) -> Any:
    if ending in FORMATS:
        return importlib.import_module(f"llmkit.translation.documents.{FORMATS[ending]}").parse
    return _others(ending)[0].load()


def _others(ending: str) -> list[Any]:
    return [point for point in entry_points(group="llmkit.documents") if "." + point.name == ending]


def _utf8(data: bytes, path: str, encoding: str) -> bytes:
    if data.startswith(_UTF_16):
        encoding = "utf-16"
    decoder = text_decoder(encoding, path)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        return data
    try:
        return decoder.decode(data, True).encode("utf-8")
    except UnicodeError as exc:  # some codecs give half a surrogate pair
        raise InputError(f"cannot be read as {encoding}: {exc}", path=path, hint="name its encoding with `encoding`") from exc
