"""Document formats by the ending of the file's name. A new one is a module here and its line in `FORMATS`."""

from __future__ import annotations

import importlib
from pathlib import Path

from llmkit.errors import InputError
from llmkit.translation.documents.base import Document

#: Ending → module, whose `parse(data, name)` gives a Document.
FORMATS = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".srt": "subtitles",
    ".vtt": "subtitles",
    ".po": "gettext",
    ".docx": "docx",
}
#: Larger documents are not held in memory.
_MOST = 200_000_000


def is_document(path: str) -> bool:
    return Path(path).suffix.lower() in FORMATS


def open_document(path: str, *, encoding: str = "utf-8") -> tuple[Document, bytes]:
    """The document and the bytes of its file. encoding: of a document that is text; the translation is written in UTF-8.

    Raises InputError for a file that can't be read or is not of its format."""
    try:
        if Path(path).stat().st_size > _MOST:
            raise InputError(f"has more than {_MOST:,} bytes", path=path, hint="cut it into several files")
        data = Path(path).read_bytes()
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", path=path) from exc
    module = importlib.import_module(f"llmkit.translation.documents.{FORMATS[Path(path).suffix.lower()]}")
    text = data
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        try:
            text = data.decode(encoding).encode("utf-8")
        except ValueError as exc:
            raise InputError(f"is not {encoding}: {exc}", path=path, hint="name its encoding with --encoding") from exc
    document: Document = module.parse(text, path)
    return document, data
