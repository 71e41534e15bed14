"""Measures a built-in model on its held-out test split, with llmkit itself, and writes its model card.

    python scripts/builtin/card.py CORPUS stories
    python scripts/builtin/card.py CORPUS en-fr

The samples are those of the first ten seeds, and of the first ten sentences of the test split; none is picked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from corpus import load_books, load_pairs

import llmkit
from llmkit.models.builtin import folder

SAMPLING = ["--temperature", "0.7", "--top-p", "0.95", "--max-new-tokens", "120"]

STORIES = """\
---
license: apache-2.0
language: en
pipeline_tag: text-generation
library_name: transformers
---

# builtin:stories

A small Llama that continues a text as an old children's book would: {parameters} parameters, {layers} layers of width
{width}, a byte-level BPE of {vocabulary:,} tokens, a context of {context} tokens. A demonstration that works offline, not a
source of facts.

## Data and license

Trained by `scripts/builtin/stories.py` on {train} books of Project Gutenberg in the public domain in the United States: {children}
children's books, weighted up and last, and {fiction} works of fiction. Whole books are held out: {valid} for validation, {test}
for test. The weights are under Apache-2.0.

## Measured

On the {test} held-out children's books of the test split ({bytes:,} bytes), by `llmkit evaluate perplexity` {version}, rolling
windows of {context} tokens without overlap:

| figure | value | 95% interval over books |
|---|---:|---|
| bits per byte | {bits} | {bits_interval} |
| token perplexity | {perplexity} | {perplexity_interval} |

Signatures: `{bits_signature}` and `{perplexity_signature}`.

## Limits

Most of its books are a hundred years old and more, and hold the words and views of their time, some of them hurtful today. It knows
nothing, forgets its characters after some sentences, and writes English only.

## Samples

`llmkit generate "Once upon a time" --echo {sampling} --seed N`, for N from 0 to 9:

{samples}
"""

EN_FR = """\
---
license: cc-by-2.0
language: [en, fr]
pipeline_tag: translation
library_name: transformers
---

# builtin:en-fr

A small Marian model that translates everyday English sentences to French: {parameters} parameters, {layers} encoder and
{decoder_layers} decoder layers of width {width}, one byte-level BPE of {vocabulary:,} tokens for both languages.

## Data and license

Trained by `scripts/builtin/en_fr.py` on {train:,} sentence pairs of the Tatoeba project (tatoeba.org, CC BY 2.0 FR), as selected
by manythings.org/anki. No pair of the validation and test splits shares its English or its French side, compared without case,
punctuation and spacing, with a training pair. The weights are under CC BY 2.0 FR, with attribution to the authors of Tatoeba.

## Measured

On the test split, by `llmkit evaluate score --metrics bleu,chrf` {version}, beam 4:

| protocol | sentences | BLEU | chrF |
|---|---:|---:|---:|
| one reference a line | {one_rows:,} | {one_bleu} | {one_chrf} |
| all references of a sentence | {all_rows:,} | {all_bleu} | {all_chrf} |

Signatures: BLEU `{one_bleu_signature}` and `{all_bleu_signature}`, chrF `{one_chrf_signature}` and `{all_chrf_signature}`.

## Limits

It knows short everyday sentences. Long sentences, names, numbers and special fields come out wrong, and it chooses between tu and
vous as it finds them in the data. Spacing before ? ! : ; is the plain space that is commonest in the data.

## Samples

The first ten sentences of the test split:

{samples}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("name", choices=["stories", "en-fr"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        card = (stories if args.name == "stories" else en_fr)(args.corpus, Path(scratch))
    (folder(args.name) / "README.md").write_text(card, encoding="utf-8")


def stories(corpus: Path, scratch: Path) -> str:
    books = load_books(corpus)
    rows = [{"id": book.id, "text": book.text} for book in books.test]
    path = _write(scratch / "test.jsonl", rows)
    found = json.loads(_llmkit("evaluate", "perplexity", "-m", "builtin:stories", "-i", path, "--json"))
    samples = []
    for seed in range(10):
        text = _llmkit("generate", "Once upon a time", "--echo", *SAMPLING, "--seed", seed)
        samples.append(f"{seed}. " + text.strip().replace("\n\n", " / ").replace("\n", " "))
    config = _config("stories")
    return STORIES.format(
        **_shape("stories"),
        layers=config["num_hidden_layers"], width=config["hidden_size"], context=config["max_position_embeddings"],
        train=len(books.children) + len(books.fiction), children=len(books.children), fiction=len(books.fiction),
        valid=len(books.valid), test=len(books.test), bytes=found["counts"]["bytes"],
        bits=f"{found['scores']['bits_per_byte']:.3f}", bits_interval=_interval(found, "bits_per_byte", 3),
        perplexity=f"{found['scores']['token_perplexity']:.1f}", perplexity_interval=_interval(found, "token_perplexity", 1),
        bits_signature=found["signatures"]["bits_per_byte"], perplexity_signature=found["signatures"]["token_perplexity"],
        sampling=" ".join(SAMPLING), samples="\n".join(samples),
    )  # fmt: skip


def en_fr(corpus: Path, scratch: Path) -> str:
    pairs = load_pairs(corpus)
    grouped: dict[str, list[str]] = {}
    for english, french in pairs.test:
        grouped.setdefault(english, []).append(french)
    figures: dict[str, Any] = {}
    one = [{"source": english, "reference": french} for english, french in pairs.test]
    every = [{"source": english, "references": list(dict.fromkeys(french))} for english, french in grouped.items()]
    out = scratch / "out.jsonl"
    for name, rows in (("one", one), ("all", every)):
        path = _write(scratch / f"{name}.jsonl", rows)
        out = scratch / f"{name}.out.jsonl"
        ran = _llmkit("evaluate", "score", "--metrics", "bleu,chrf", "-m", "builtin:en-fr", "-i", path, "-o", out, "--json")
        found = json.loads(ran)
        figures |= {f"{name}_rows": found["rows"]}
        for metric in ("bleu", "chrf"):
            figures[f"{name}_{metric}"] = f"{found['scores'][metric]:.1f}"
            figures[f"{name}_{metric}_signature"] = found["signatures"][metric]
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()[:10]]
    samples = ["| English | French |", "|---|---|", *(f"| {row['source']} | {row['prediction']} |" for row in answers)]
    config = _config("en-fr")
    return EN_FR.format(
        **_shape("en-fr"), **figures,
        layers=config["encoder_layers"], decoder_layers=config["decoder_layers"], width=config["d_model"],
        train=len(pairs.train), samples="\n".join(samples),
    )  # fmt: skip


def _llmkit(*arguments: object) -> str:
    command = [sys.executable, "-m", "llmkit", *map(str, arguments), "--offline", "--quiet"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout.decode()


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder(name) / "config.json").read_text())
    return content


def _shape(name: str) -> dict[str, Any]:
    about = json.loads(_llmkit_show(name))
    return {"parameters": f"{about['parameters'] / 1e6:.2f} M", "vocabulary": about["vocabulary"], "version": llmkit.__version__}


def _llmkit_show(name: str) -> str:
    command = [sys.executable, "-m", "llmkit", "models", "show", f"builtin:{name}", "--json"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


def _interval(found: dict[str, Any], name: str, digits: int) -> str:
    low, high = found["intervals"][name]
    return f"{low:.{digits}f} to {high:.{digits}f}"


if __name__ == "__main__":
    main()
