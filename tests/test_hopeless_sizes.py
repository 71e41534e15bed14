"""Small files that unpack to brackets without end are given up, not read to their end."""

from __future__ import annotations

import gzip
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from llmkit.errors import InputError
from llmkit.rows import open_rows

#: Seconds of processor time for one of them; one or two are usual.
MOST = 10


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"takes more than {MOST} s of processor time")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, MOST)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("piece", [b"[", b'{"a":', b"[{"], ids=str)
def test_brackets_without_end_are_given_up(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(b"[" + piece * 20_000_000, 1))
    with pytest.raises(InputError, match="nested more than 2,000,000 levels deep"):
        list(open_rows(str(path)))
