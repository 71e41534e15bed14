"""What translating a document costs beside its model: CPU time of the process, all threads, so that other work does not count.

The built-in translator on files of one sentence a segment. Everything outside of the engine's `generate` counts as the rest: reading,
marks, sentences, tokens, journal, proof and record, and the opening of the model.
"""

from __future__ import annotations

import io
import json
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_WHO = ("The man", "My brother", "The old woman", "Her little dog", "A tired cat", "The teacher")
_DOES = ("is in", "lives near", "walks to", "looks at", "likes", "waits for")
_WHAT = ("the red house", "the station", "a big garden", "our school", "the river", "my table", "the window")
_WHEN = ("today", "in the morning", "after the rain", "every summer", "with a friend")


def sentences(count: int) -> list[str]:
    """Different sentences, the same every time."""
    draw = random.Random(0)
    return [f"{draw.choice(_WHO)} {draw.choice(_DOES)} {draw.choice(_WHAT)} {draw.choice(_WHEN)}, and {n} more." for n in range(count)]


def _marked(sentence: str, opening: str, closing: str) -> str:
    """The sentence with its third word in a mark."""
    words = sentence.split(" ")
    return " ".join([*words[:2], f"{opening}{words[2]}{closing}", *words[3:]])


def _docx(texts: list[str]) -> bytes:
    run = '<w:r>{}<w:t xml:space="preserve">{}</w:t></w:r>'
    paragraphs = []
    for text in texts:
        first, _, rest = text.partition(" ")
        paragraphs.append(f"<w:p>{run.format('', first)}{run.format('<w:rPr><w:b/></w:rPr>', ' ' + rest)}</w:p>")
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("word/document.xml", f"<w:document {space}><w:body>{''.join(paragraphs)}</w:body></w:document>")
    return out.getvalue()


def _time(second: int) -> str:
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d},000"


def _srt(texts: list[str]) -> bytes:
    cues = (f"{n + 1}\n{_time(2 * n)} --> {_time(2 * n + 1)}\n{_marked(text, '<i>', '</i>')}\n" for n, text in enumerate(texts))
    return "\n".join(cues).encode()


def _xliff(texts: list[str]) -> bytes:
    marked = (_marked(escape(text), '<g id="1">', "</g>") for text in texts)
    units = "".join(f'<trans-unit id="{n}"><source>{text}</source></trans-unit>\n' for n, text in enumerate(marked))
    return f'<xliff version="1.2"><file source-language="en"><body>\n{units}</body></file></xliff>\n'.encode()


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "md": lambda texts: "\n\n".join(_marked(text, "**", "**") for text in texts).encode(),
    "html": lambda texts: "\n".join(f"<p>{_marked(text, '<b>', '</b>')}</p>" for text in texts).encode(),
    "po": lambda texts: "\n".join(f'msgid "{_marked(text, "<b>", "</b>")}"\nmsgstr ""\n' for text in texts).encode(),
    "docx": _docx,
    "srt": _srt,
    "xliff": _xliff,
    "json": lambda texts: json.dumps({f"key.{n}": _marked(text, "{", "}") for n, text in enumerate(texts)}, indent=1).encode(),
}


def measured(path: Path, out: Path) -> tuple[float, float]:
    """CPU seconds of the engine, and of all else that translating a file took. Raises SystemExit where the command fails."""
    from llmkit.cli import app
    from llmkit.engines.ctranslate2.engine import CTranslate2Engine

    spent = 0.0
    original: Callable[..., Any] = CTranslate2Engine.generate

    def timed(engine: CTranslate2Engine, *arguments: Any, **options: Any) -> Any:
        nonlocal spent
        begun = time.process_time()
        try:
            return original(engine, *arguments, **options)
        finally:
            spent += time.process_time() - begun

    CTranslate2Engine.generate = timed  # type: ignore[method-assign, assignment]
    begun = time.process_time()
    try:
        code = app.run(["translate", "-i", str(path), "-o", str(out), "--to", "fr", "--overwrite", "-q"])
    finally:
        CTranslate2Engine.generate = original  # type: ignore[method-assign]
    if code not in (0, 3):
        raise SystemExit(f"llmkit translate ended with {code}")
    return spent, time.process_time() - begun - spent


def main(segments: int, out: Path, scratch: Path) -> None:
    """Prints a line per format, and writes them to documents.md in `out`."""
    lines = ["| format | segments | model, CPU s per 1,000 | the rest, CPU s per 1,000 | the rest is |", "|---|---:|---:|---:|---:|"]
    print("\n".join(lines), flush=True)
    for ending, make in FORMATS.items():
        for count in (2, segments):  # the first imports what the format needs
            path = scratch / f"bench-{count}.{ending}"
            path.write_bytes(make(sentences(count)))
            model, rest = measured(path, scratch / f"bench-{count}.fr.{ending}")
        scale = 1000 / segments
        lines.append(f"| {ending} | {segments:,} | {model * scale:.1f} | {rest * scale:.2f} | {100 * rest / model:.1f}% |")
        print(lines[-1], flush=True)
    (out / "documents.md").write_text("\n".join(lines) + "\n")
