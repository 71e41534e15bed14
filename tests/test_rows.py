"""Rows from files of every form, and from files that are broken."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import InputError, LlmkitError, UsageError
from llmkit.rows import open_rows
from llmkit.rows.text import Source, lines


def read(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    return [row.fields for row in open_rows(str(path), **options)]


ROWS = [{"id": "1", "text": "one, two"}, {"id": "2", "text": 'a "quoted"\nline'}, {"id": "3", "text": "öäü ☃"}]


@pytest.fixture(params=["jsonl", "json", "csv", "tsv", "parquet"])
def every_format(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"rows.{request.param}"
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    elif request.param == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif request.param == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"], delimiter="\t" if request.param == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


def test_each_format_gives_the_same_rows(every_format: Path) -> None:
    assert read(every_format) == ROWS


def test_each_format_is_read_gzipped(every_format: Path, tmp_path: Path) -> None:
    packed = tmp_path / f"{every_format.name}.gz"
    packed.write_bytes(gzip.compress(every_format.read_bytes(), mtime=0))
    if every_format.suffix == ".parquet":
        with pytest.raises(InputError, match="plain file"):
            read(packed)
    else:
        assert read(packed) == ROWS


def test_a_line_of_text_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\nthree")
    assert read(path, text_field="prompt") == [{"prompt": "one"}, {"prompt": ""}, {"prompt": "three"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_every_line_end_counts_lines_alike(tmp_path: Path, end: str, last: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((end.join(['{"a": 1}', '{"a": "\u2028"}', "{broken"]) + (end if last else "")).encode())
    rows = list(open_rows(str(path)))
    assert [r.fields for r in rows] == [{"a": 1}, {"a": "\u2028"}, {}]
    assert rows[2].line == 3
    assert f"{path}, line 3:" in str(rows[2].error)


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read(path) == [{"a": 1}]


def test_nul_bytes_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\x00b\n")
    assert read(path) == [{"text": "a\x00b"}]


def test_invalid_utf8_names_byte_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\nthr\xffee\n")
    with pytest.raises(InputError, match=r"line 3: byte 12 \(0xff\)") as caught:
        read(path)
    assert "`encoding`" in str(caught.value.hint)


def test_invalid_utf8_far_into_the_file_names_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 99_999 + b"\n" + b"y" * 99_999 + b"\xc3(")
    with pytest.raises(InputError, match=r"line 2: byte 200000 \(0xc3\)"):
        read(path)


def test_utf16_is_recognised_and_read_when_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("héllo\nworld".encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16") as caught:
        read(path)
    assert caught.value.hint == "add `encoding` utf-16"
    assert read(path, encoding="utf-16") == [{"text": "héllo"}, {"text": "world"}]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[1, 2]", "a list"),
        ("3", "a number"),
        ('"x"', "a string"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_row_that_is_no_object_is_an_error_of_that_row(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"ok": 1}\n' + line + '\n{"ok": 2}\n')
    rows = list(open_rows(str(path)))
    assert [r.fields for r in rows] == [{"ok": 1}, {}, {"ok": 2}]
    assert what in str(rows[1].error)
    assert "line 2" in str(rows[1].error)


def test_ten_broken_rows_at_the_beginning_are_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("not json\n" * 12)
    with pytest.raises(InputError, match="the first 10 rows are all broken"):
        read(path)


def test_csv_reads_semicolons_and_large_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1;" + "x" * 1_000_000 + "\n")
    assert read(path) == [{"a": "1", "b": "x" * 1_000_000}]


def test_csv_reads_bars(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a|b\n"1, 2"|3;4\n')
    assert read(path) == [{"a": "1, 2", "b": "3;4"}]


def test_a_ragged_csv_row_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"1\n1",2\n3\n4,5\n')
    rows = list(open_rows(str(path)))
    assert rows[0].fields == {"a": "1\n1", "b": "2"}
    assert "line 4: 1 cell where the header has 2" in str(rows[1].error)
    assert rows[2].fields == {"a": "4", "b": "5"}


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"x" * 100_000, mtime=0)[:-20]])
def test_a_broken_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="gzip"):
        read(path)


def test_a_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="parquet"):
        read(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_an_input_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        read(tmp_path / name, format="jsonl")


def test_an_unknown_ending_names_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("x")
    with pytest.raises(UsageError) as caught:
        read(path)
    assert "jsonl" in str(caught.value.hint)


def test_a_fifo_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=('{"a": 1}\n{"a": 2}\n',))
    writer.start()
    assert read(path) == [{"a": 1}, {"a": 2}]
    writer.join(PATIENCE)


def test_the_hash_is_of_the_whole_file(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 1000)
    rows = open_rows(str(path))
    assert sum(1 for _ in rows) == 1000
    assert rows.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_gzip_bomb_is_read_in_flat_memory(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "bomb.txt.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(300):
            file.write((b"0" * 999 + b"\n") * 1000)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (220 << 20, 220 << 20))\n"
        "from llmkit.rows import open_rows\nprint(sum(1 for _ in open_rows(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.stdout.strip() == "300000", done.stderr


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20), st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str], end: str) -> None:
    texts = [t.replace("\r", "").replace("\n", "").replace("\ufeff", "") for t in texts]
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes("".join(t + end for t in texts).encode())
    with Source(str(path)) as source:
        assert list(lines(source)) == texts


@given(
    st.lists(
        st.dictionaries(st.text(min_size=1, max_size=5), st.one_of(st.text(), st.integers(), st.none(), st.lists(st.integers()))),
        max_size=8,
    )
)
def test_json_rows_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read(path) == rows


def test_errors_of_input_are_llmkit_errors() -> None:
    assert issubclass(InputError, LlmkitError)
