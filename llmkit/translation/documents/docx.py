"""Word documents (.docx): the text of paragraphs, in tables, headers and footers too; runs and styles stay.

By python-docx, which resolves no external entity. The archive is measured before it is opened.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from llmkit.errors import InputError, UnavailableError
from llmkit.private_parts import require
from llmkit.translation.documents.base import Segment, has_letters

#: Bytes that an archive may unpack to, and how many times its own size.
_MOST, _RATIO = 500_000_000, 200


class WordDocument:
    """A paragraph of one format is a segment; one of several is a segment for each run of like format."""

    keep: re.Pattern[str] | None = None

    def __init__(self, document: Any) -> None:
        self._document = document
        self._groups = [group for p in _paragraphs(document) for group in _groups(p) if has_letters(_text(group))]
        self.segments = tuple(Segment(_text(group), _text(group), number) for number, group in enumerate(self._groups, 1))

    def build(self, translations: Sequence[str]) -> bytes:
        for group, segment, text in zip(self._groups, self.segments, translations, strict=True):
            if text != segment.text:
                group[0].text = text
                for run in group[1:]:
                    run.text = ""
        out = io.BytesIO()
        self._document.save(out)
        return out.getvalue()


def parse(data: bytes, name: str) -> WordDocument:
    """Raises InputError for a file that is no Word document or unpacks to too much, UnavailableError without python-docx."""
    try:
        import docx
    except ImportError as exc:
        raise UnavailableError("translating .docx files needs python-docx", hint="pip install 'llmkit[documents]'") from exc
    require("documents")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > min(_MOST, max(_RATIO * len(data), 1_000_000)):
                raise InputError(f"unpacks to {size:,} bytes from {len(data):,}, so it is not opened", path=name)
        return WordDocument(docx.Document(io.BytesIO(data)))
    except InputError:
        raise
    except Exception as exc:
        # zipfile, lxml and python-docx each have their own errors
        raise InputError(f"is no Word document: {' '.join(str(exc).split())[:200]}", path=name) from exc


def _paragraphs(document: Any) -> Iterator[Any]:
    """Every paragraph in the order of the file: body, tables, then headers and footers."""
    from docx.text.paragraph import Paragraph

    parts = [document.element.body]
    for section in document.sections:
        parts += [part._element for part in (section.header, section.footer) if not part.is_linked_to_previous]
    for element in parts:
        for child in element.iter("{http://schemas.openxmlformats.org/wordprocessingml/2006/main}p"):
            yield Paragraph(child, document)


def _groups(paragraph: Any) -> list[list[Any]]:
    """Neighbouring runs of one format. A run that holds more than text (a break, a picture) stands alone."""
    groups: list[list[Any]] = []
    before: Any = None
    for run in paragraph.runs:
        properties = run.element.rPr
        style = properties.xml if properties is not None else ""
        plain = all(child.tag.endswith(("}t", "}rPr")) for child in run.element)
        key = (style, plain)
        if not plain:
            before = None
            continue
        if groups and key == before:
            groups[-1].append(run)
        else:
            groups.append([run])
        before = key
    return groups


def _text(runs: Sequence[Any]) -> str:
    return "".join(run.text for run in runs)
