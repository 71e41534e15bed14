"""Files of rows with damaged bytes give rows, or one clear error; never a traceback, and never rows out of order."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import LlmkitError
from llmkit.rows import open_rows
from llmkit.rows.reading import Row

SEEDS: dict[str, Callable[[], bytes]] = {
    "txt": lambda: "one\r\ntwo\u2028\nthrée\n".encode(),
    "jsonl": lambda: b'{"a": [1, 2.50, null], "b": "\\ud800"}\n{"a": {"c": "\\""}}\n',
    "json": lambda: b'[{"a": [1, 2.50, null], "b": "\\ud800"},\n {"a": {"c": "\\""}}]\n',
    "csv": lambda: b'a,b\n1,"x\ny"\n2,"q""q"\n',
    "tsv": lambda: b'a\tb\n1\t"x\ny"\n2\t"q""q"\n',
    "txt.gz": lambda: gzip.compress(b"one\ntwo\n", mtime=0),
}


def mutated(seed: bytes, random: Any) -> bytes:
    data = bytearray(seed)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(data) + 1)
        change = random.randrange(4)
        if change == 0:
            data[at:at] = bytes([random.randrange(256)]) * random.choice((1, 1, 1, 300))
        elif change == 1:
            del data[at : at + random.randint(1, 5)]
        elif change == 2:
            data[at:at] = random.choice([b'"', b"\\", b"[", b"}", b",", b"\0", b"\r", b"\xef\xbb\xbf", b"\t", b"1e999", b"NaN"])
        else:
            data[at : at + 1] = bytes([random.randrange(256)])
    return bytes(data)


@pytest.mark.parametrize("ending", sorted(SEEDS))
def test_damaged_files_give_rows_in_order_or_one_clear_error(tmp_path: Path, ending: str) -> None:
    import random

    from llmkit.rows.values import to_json

    chance = random.Random(ending)
    path = tmp_path / f"a.{ending}"
    for _ in range(500):
        path.write_bytes(mutated(SEEDS[ending](), chance))
        rows, error = read_or_error(path)
        assert [row.index for row in rows] == list(range(len(rows)))
        assert error is None or (str(path) in error and "\n" not in error)
        for row in rows:
            to_json(row.fields).encode()


def read_or_error(path: Path) -> tuple[list[Row], str | None]:
    try:
        return list(open_rows(str(path))), None
    except LlmkitError as exc:
        return [], exc.message


def test_damaged_parquet_files_give_rows_or_one_clear_error(tmp_path: Path) -> None:
    import datetime
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(1)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x", "é"], "d": [datetime.date(2024, 1, 1), None], "m": [[1, 2], []]}), path)
    seed = path.read_bytes()
    for _ in range(300):
        path.write_bytes(mutated(seed, chance))
        rows, error = read_or_error(path)
        assert [row.index for row in rows] == list(range(len(rows)))
        assert error is None or str(path) in error
