"""Cleaning and splitting of the corpora behind the built-in models.

Knows the two file forms (books as JSONL rows, sentence pairs as TSV) and nothing of models or tokenizers.
Every choice is a function of the text itself (SHA-256 of a key), so the splits are the same on every machine.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Books held out of the children's corpus: about one in twelve to each side.
TEST_BOOKS, VALID_BOOKS = 6, 4
#: English sentences held out for each of the test and validation sides.
HELD_OUT_SENTENCES = 2000

_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "`": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " "})


@dataclass(frozen=True)
class Book:
    """One whole book: `paragraphs` are cleaned and in order."""

    id: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(self.paragraphs)


@dataclass(frozen=True)
class Books:
    """The book corpus, split by whole book."""

    children: tuple[Book, ...]
    fiction: tuple[Book, ...]
    valid: tuple[Book, ...]
    test: tuple[Book, ...]


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs (English, French). No pair of `valid` or `test` shares a side with `train`."""

    train: tuple[tuple[str, str], ...]
    valid: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]


def load_books(folder: Path) -> Books:
    """The children's books and the fiction of `folder`, cleaned; held-out books are children's books.

    A paragraph of 60 characters or more that also stands in a held-out book (a second edition, an anthology)
    is dropped from the training side.
    """
    children = sorted(_read_books(folder / "gutenberg.children.jsonl.gz"), key=lambda b: _digest(b.id))
    test, valid = children[:TEST_BOOKS], children[TEST_BOOKS : TEST_BOOKS + VALID_BOOKS]
    held = {p for book in (*test, *valid) for p in book.paragraphs if len(p) >= 60}
    held_titles = {_sentence_key(book.title) for book in (*test, *valid)}

    def training(books: list[Book]) -> tuple[Book, ...]:
        fresh = (b for b in books if _sentence_key(b.title) not in held_titles)
        return tuple(Book(b.id, b.title, tuple(p for p in b.paragraphs if p not in held)) for b in fresh)

    fiction = sorted(_read_books(folder / "gutenberg.fiction.jsonl.gz"), key=lambda b: _digest(b.id))
    known = {b.id for b in children}
    return Books(
        children=training(children[TEST_BOOKS + VALID_BOOKS :]),
        fiction=training([b for b in fiction if b.id not in known]),
        valid=tuple(valid),
        test=tuple(test),
    )


def load_pairs(folder: Path) -> Pairs:
    """The English-French pairs of `folder`: 2,000 English sentences with all their translations to each held-out side.

    Sides are compared without case, punctuation and spacing, and a training pair that shares either side with a
    held-out pair is dropped; likewise a validation pair that shares a side with a test pair.
    """
    pairs = []
    with gzip.open(folder / "tatoeba.eng-fra.tsv.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            english, french = line.rstrip("\n").split("\t")
            pairs.append((_clean_sentence(english), _clean_sentence(french)))
    pairs = list(dict.fromkeys(pairs))
    order = sorted({_sentence_key(en) for en, _ in pairs}, key=_digest)
    test_keys = set(order[:HELD_OUT_SENTENCES])
    valid_keys = set(order[HELD_OUT_SENTENCES : 2 * HELD_OUT_SENTENCES])
    test = [p for p in pairs if _sentence_key(p[0]) in test_keys]
    test_french = {_sentence_key(fr) for _, fr in test}
    valid = [p for p in pairs if _sentence_key(p[0]) in valid_keys and _sentence_key(p[1]) not in test_french]
    held_french = test_french | {_sentence_key(fr) for _, fr in valid}
    held_english = test_keys | valid_keys
    train = [p for p in pairs if _sentence_key(p[0]) not in held_english and _sentence_key(p[1]) not in held_french]
    return Pairs(train=tuple(train), valid=tuple(valid), test=tuple(test))


def _read_books(path: Path) -> Iterator[Book]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            paragraphs = tuple(p for p in map(_clean_paragraph, row["text"].split("\n\n")) if p)
            yield Book(row["id"], row["title"], paragraphs)


def _clean_paragraph(text: str) -> str:
    """Plain quotes, one kind of dash, no italics marks; empty for headings, contents tables and rules."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    text = re.sub(r"\[(Illustration|Footnote)[^\]]*\]", "", text)
    text = re.sub(r"(?<!\w)_(.+?)_(?!\w)", r"\1", text)
    text = re.sub(r"\s*(?:--+|—+)\s*", "—", text)
    text = re.sub(r"[ \t\n]+", " ", text).strip()
    letters = [c for c in text if c.isalpha()]
    if len(letters) < 2 or sum(c.isupper() for c in letters) > 0.5 * len(letters):
        return ""
    if re.match(r"(?i)(chapter|contents|by |illustrated|copyright)\b", text) and len(text) < 120:
        return ""
    return text


def _clean_sentence(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text).replace("’", "'")).strip()


def _sentence_key(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
