"""The corpus of hard files in `documents/`: each a trap, `NAME.ENDING`, and beside it what must come out, `NAME.out.ENDING`.

What comes out is by a translator of seven words, so that structure and place can be told apart from a model's choice.
`python tests/test_document_corpus.py` shows what comes out now, where it differs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run

from llmkit.translation.documents.base import Document
from llmkit.translation.documents.formats import open_document
from llmkit.translation.documents.verification import HasSkeleton, verify
from llmkit.translation.markup import strip
from llmkit.translation.pieces import split

FOLDER = Path(__file__).parent / "documents"
FILES = sorted(path for path in FOLDER.glob("*/*") if path.with_name(f"{path.stem}.out{path.suffix}").exists())
WORDS = {"house": "maison", "The": "Le", "the": "le", "cat": "chat", "tired": "fatigué", "station": "gare", "My": "Ma", "House": "Maison"}


def opened(path: Path) -> Document:
    return open_document(str(path))[0]


def answered(document: Document, model: Callable[[str], str]) -> list[str]:
    """Each segment, put together from the model's answers to its pieces as the command does."""
    out = []
    for number, segment in enumerate(document.segments):
        marked = strip(segment.text, document.keep.of(number))
        pieces = split(marked.plain, "en", lambda _: True)
        out.append(marked.joined(pieces, [model(piece.text) for piece in pieces.pieces]))
    return out


def french(text: str) -> str:
    return re.sub(r"[^\W_]+", lambda match: WORDS.get(match.group(), match.group()), text)


def expected(path: Path) -> Path:
    return path.with_name(f"{path.stem}.out{path.suffix}")


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_each_file_of_the_corpus_becomes_what_it_must(path: Path) -> None:
    document = opened(path)
    texts = answered(document, french)
    for number, (segment, text) in enumerate(zip(document.segments, texts, strict=True)):
        assert document.keep.of(number).problem(segment.text, text) is None
    made = verify(document, texts)
    assert made.data.decode("latin-1") == expected(path).read_bytes().decode("latin-1")
    assert made.left == ()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_each_file_of_the_corpus_comes_back_byte_for_byte(path: Path) -> None:
    document = opened(path)
    assert document.build(answered(document, lambda text: text)) == path.read_bytes()
    assert document.build([None] * len(document.segments)) == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_answer_changes_the_skeleton_of_a_file_of_the_corpus(path: Path) -> None:
    document = opened(path)
    assert isinstance(document, HasSkeleton)
    for model in (str.upper, lambda text: "Oui.", lambda text: f"- {text} {{x}} *b* <i> & `c` | --> %s", lambda text: f"1. {text}\n# a"):
        made = verify(document, answered(document, model))
        assert document.skeleton(made.data) == document.skeleton(path.read_bytes())


def translated(run: Run, path: Path, out: Path) -> None:
    """By the built-in model: whatever it writes, the structure stays, and the exit code tells of what it lost."""
    done = run("translate", "-i", path, "-o", out, "--to", "fr", "--num-beams", "1")
    failed = json.loads(out.with_name(f"{out.name}.run.json").read_text())["result"]["failed"]
    assert done.code == (3 if failed else 0), done.err
    document, _ = open_document(str(path), "fr")
    assert isinstance(document, HasSkeleton)
    assert document.skeleton(out.read_bytes()) == document.skeleton(document.build([None] * len(document.segments)))


@pytest.mark.parametrize("name", ["md/html-block.md", "html/page.html", "srt/sentence-over-two-cues.srt", "vtt/karaoke.vtt", "po/tags.po"])
def test_the_built_in_model_changes_no_structure(run: Run, tmp_path: Path, name: str) -> None:
    path = FOLDER / name
    translated(run, path, tmp_path / path.name)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in FILES if path.stat().st_size], ids=named)
def test_the_built_in_model_changes_no_structure_of_any_file(run: Run, tmp_path: Path, path: Path) -> None:
    translated(run, path, tmp_path / path.name)


if __name__ == "__main__":
    for file in FILES:
        found = verify(opened(file), answered(opened(file), french)).data
        if "--write" in sys.argv:
            expected(file).write_bytes(found)
        elif not expected(file).exists() or found != expected(file).read_bytes():
            sys.stdout.write(f"== {named(file)}\n{found.decode('utf-8', 'replace')}\n")
