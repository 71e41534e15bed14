"""Rows with values of typed columns are known again: failed ones are run again, the others are kept as they are."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows

DAY = datetime.datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=datetime.UTC)


def columns() -> dict[str, Any]:
    import pyarrow as pa

    ask = [{"n": 1, "at": DAY}, {"n": 2, "at": None}]
    return {
        "timestamp": pa.array([DAY, DAY]),
        "timestamp of nanoseconds": pa.array([1_709_168_523_456_789_123, None], pa.timestamp("ns", "UTC")),
        "date": pa.array([DAY.date(), None]),
        "time": pa.array([DAY.time(), None]),
        "duration": pa.array([1_500_001, None], pa.duration("us")),
        "decimal": pa.array([decimal.Decimal("1.10"), decimal.Decimal("-0.00")]),
        "binary": pa.array([b"\x00\xff", b""]),
        "float": pa.array([0.1, float("nan")]),
        "infinite": pa.array([float("inf"), float("-inf")]),
        "half": pa.array([0.1, 1e-5], pa.float32()),
        "huge": pa.array([2**64 - 1, 0], pa.uint64()),
        "dictionary": pa.array(["a", "b"]).dictionary_encode(),
        "list of struct": pa.array([ask, []]),
        "map": pa.array([[("a", 1)], [("b", 2), ("c", 3)]], pa.map_(pa.string(), pa.int64())),
        "lists of binary": pa.array([[b"\x00"], [None]]),
        "nested": pa.array([[[1, None]], [[], None]]),
    }


@pytest.mark.parametrize("kind", columns())
def test_a_run_over_a_typed_column_is_known_again(run: Run, tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, out = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    column = columns()[kind]
    pq.write_table(pa.table({"prompt": pa.array(["Once", None]), "value": column}), path)
    command = ["generate", "-i", path, "-o", out, "--max-new-tokens", "2"]
    assert run(*command).code == 3
    first = out.read_bytes()
    assert "error" in read_rows(out)[1]
    for line in first.decode().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    same = run(*command)
    assert (same.code, out.read_bytes()) == (3, first)
    again = run(*command, "--retry-failed")
    assert again.code == 3, again.err
    assert "has changed" not in again.err
    assert out.read_bytes() == first
