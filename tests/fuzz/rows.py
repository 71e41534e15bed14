"""Files of rows: every format, whole and damaged, read by every command that reads rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from random import Random
from typing import Any

from fuzz.case import Case, json_lines
from fuzz.damage import harmed, value

FORMATS = ("jsonl", "jsonl", "json", "csv", "tsv", "txt", "parquet")
ENCODINGS = (
    "utf-8",
    "utf-16",
    "utf-16-le",
    "latin-1",
    "cp1252",
    "utf-7",
    "utf-32",
    "shift_jis",
    "unicode_escape",
    "raw_unicode_escape",
    "base64",
    "idna",
    "x",
)
_NAMES = (
    "prompt",
    "text",
    "prediction",
    "reference",
    "references",
    "messages",
    "instruction",
    "input",
    "output",
    "id",
    "error",
    "translation",
    "a b",
    "",
)
_TEXTS = (
    "the king",
    "the queen lived in a house",
    "",
    " ",
    "été",
    "日本語",
    "\u2028",
    "a\0b",
    "x\ty",
    'say "yes"',
    "a,b;c",
    "line\nline",
    "\r",
    "\ud83d\ude00",
    "=1+1",
)
_MESSAGES = [{"role": "user", "content": "the king"}, {"role": "assistant", "content": "lived"}]


def case(chance: Random, folder: Path, bases: Path) -> Case:
    ending = chance.choice(FORMATS)
    count = chance.choice((0, 1, 2, 9, 30, 30, 100))
    data = _written([_row(chance, hostile=chance.random() < 0.2) for _ in range(count)], ending)
    if chance.random() < 0.15 and ending != "parquet":
        data = data.decode("utf-8", "replace").encode(chance.choice(ENCODINGS[:7]), "replace")
    if chance.random() < 0.7:
        data = harmed(chance, data)
    if chance.random() < 0.15:
        ending += ".gz"
        data = gzip.compress(data)
        data = harmed(chance, data) if chance.random() < 0.6 else data
    name = f"rows.{ending}"
    (folder / name).write_bytes(data)
    arguments = list(_command(chance, name, bases))
    if chance.random() < 0.1:
        arguments += ["--encoding", chance.choice(ENCODINGS)]
    if chance.random() < 0.05:
        arguments += ["--input-format", chance.choice(("txt", "jsonl", "json", "csv", "tsv", "parquet"))]

    def check(code: int) -> str | None:
        output = folder / "out.jsonl"
        return json_lines(output) if output.exists() else None

    return Case(tuple(arguments), (name, *_NOT_ABOUT_THE_FILE), ("out.jsonl", ".out.jsonl"), rows=count, check=check)


#: What an error is about that no file can help.
_NOT_ABOUT_THE_FILE = ("--encoding", "--input-format", "encoding '", "chat template")


def _command(chance: Random, name: str, bases: Path) -> tuple[str, ...]:
    model = ("-m", str(bases / "llama"))
    tiny = ("--max-new-tokens", "1", "-q")
    return chance.choice(
        (
            ("evaluate", "score", "-i", name, "--metrics", chance.choice(("exact_match", "exact_match,f1")), "--json"),
            ("evaluate", "score", "-i", name, "--metrics", "exact_match", "--json"),
            ("evaluate", "bleu", "-i", name, "--json"),
            ("evaluate", "score", "-p", name, "-r", name, "--metrics", "exact_match", "--json"),
            ("generate", "-i", name, "-o", "out.jsonl", *model, *tiny),
            ("generate", "-i", name, "-o", "out.jsonl", *model, *tiny, "--template", "{text} {a b}", "--limit", "20"),
            ("generate", "-i", name, *model, *tiny, "--limit", "20"),
            ("evaluate", "perplexity", "-i", name, *model, "-q", "--json", "--limit", "20"),
            ("finetune", name, "-m", str(bases / "gpt2"), "--dry-run", "-q", "--json"),
        )
    )


def _row(chance: Random, *, hostile: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": chance.choice(_TEXTS), "text": chance.choice(_TEXTS), "prediction": "a", "reference": "a"}
    if chance.random() < 0.1:
        row = {"messages": _MESSAGES, "prediction": "a", "reference": "a", "text": "a"}
    if hostile:
        row[chance.choice(_NAMES)] = value(chance)
        if chance.random() < 0.3:
            row.pop(chance.choice(list(row)))
    return row


def _written(rows: list[dict[str, Any]], ending: str) -> bytes:
    if ending == "json":
        return json.dumps(rows).encode()
    if ending == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if ending == "txt":
        return "".join(str(row.get("text")) + "\n" for row in rows).encode("utf-8", "replace")
    if ending == "parquet":
        return _parquet(rows)
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["prompt"]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, delimiter="\t" if ending == "tsv" else ",", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode("utf-8", "replace")


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    """The columns of texts as such, the others as JSON, and one of dates."""
    import pyarrow
    import pyarrow.parquet

    names = list(dict.fromkeys(name for row in rows for name in row)) or ["prompt"]
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        whole = all(isinstance(v, str) and v.isprintable() for v in values)
        columns[name] = values if whole else [json.dumps(v) for v in values]
    columns["day"] = (
        pyarrow.array([len(rows) * 10**i for i in range(len(rows))][: len(rows)] or [], pyarrow.int64()).cast(pyarrow.int64())
        if len(rows) < 9
        else [1] * len(rows)
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()
