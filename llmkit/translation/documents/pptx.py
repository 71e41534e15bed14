"""PowerPoint (.pptx): slides, notes, charts, diagrams and comments; of layouts what is no placeholder. Fields stay.

ECMA-376, part 1: https://ecma-international.org/publications-and-standards/standards/ecma-376/.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmkit.translation.documents import archive, drawing, office_language
from llmkit.translation.documents.archive import ArchiveDocument, Entries, Part

_OWN = r"ppt/(?:slides/slide|notesSlides/notesSlide|charts/chart\w*?|diagrams/data|diagrams/drawing|comments/modernComment\w*?)\d*\.xml"
_LAYOUTS = r"ppt/(?:slideLayouts/slideLayout|slideMasters/slideMaster|notesMasters/notesMaster)\d+\.xml"
_COMMENTS = r"ppt/comments/comment\w*\.xml"


def parse(data: bytes, name: str, target: str | None = None) -> ArchiveDocument:
    """target: the language in which texts are checked. Raises InputError for a file that is not a presentation or unpacks to too much."""
    entries = archive.opened(data, name, "a PowerPoint presentation", "ppt/presentation.xml")
    return ArchiveDocument(entries, tuple(_parts(entries, target)), archive.compare)


def _parts(entries: Entries, target: str | None) -> Iterator[tuple[str, Part]]:
    slides = [entries.source(entry)[0] for entry in ("ppt/presentation.xml", *entries.matching(r"ppt/slides/slide\d+\.xml"))]
    own = office_language.of_most(tag for source in slides for tag in drawing.languages(source))
    for pattern, fixed_only in ((_OWN, False), (_LAYOUTS, True)):
        for entry in entries.matching(pattern):
            source, encoding = entries.source(entry)
            source = drawing.in_language(source, own, target)
            yield entry, archive.part(source, encoding, drawing.units(source, fixed_only=fixed_only))
    for entry in entries.matching(_COMMENTS):
        source, encoding = entries.source(entry)
        yield entry, archive.part(source, encoding, archive.elements(source, frozenset(("text",))))
    yield from archive.properties(entries)
