"""Small files that unpack to brackets without end are given up, not read to their end."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from llmkit.errors import InputError
from llmkit.rows import open_rows

pytestmark = pytest.mark.usefixtures("limited_time")


@pytest.mark.parametrize("piece", [b"[", b'{"a":', b"[{"], ids=str)
def test_brackets_without_end_are_given_up(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(b"[" + piece * 20_000_000, 1))
    with pytest.raises(InputError, match="nested more than 2,000,000 levels deep"):
        list(open_rows(str(path)))
