"""Files of rows as they come: odd encodings, line ends, quotes, packed, cut off, or not what their name says."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import InputError
from llmkit.rows import open_rows
from llmkit.rows.reading import FORMATS, Row
from llmkit.rows.text import read_text


def rows_of(path: Path, content: str | bytes, **options: Any) -> list[Row]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(open_rows(str(path), **options))


def fields_of(path: Path, content: str | bytes, **options: Any) -> list[dict[str, Any]]:
    return [row.fields for row in rows_of(path, content, **options)]


def refusal(path: Path, content: str | bytes, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, content, **options)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


# JSON


def test_a_json_file_with_one_object_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / "d.json", '{"prompt": "Once"}')
    assert "is one JSON object, not a list of objects" in error.message
    assert error.hint is not None
    assert "[ ]" in error.hint
    assert "messages by `input_format` arb" in error.hint


def test_a_json_file_with_an_object_around_the_list_is_refused_by_the_field(tmp_path: Path) -> None:
    error = refusal(tmp_path / "d.json", '{"version": 1, "data": [{"prompt": "a"}, {"prompt": "b"}]}')
    assert "one JSON object around a list" in error.message
    assert "field 'data' holds 2 objects" in error.message


def test_a_json_file_of_json_lines_is_read(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "l.json", '{"prompt": "Once"}\n\n{"prompt": \n"The king"}\n{"prompt": }\n')
    assert [(row.fields, row.line) for row in rows] == [({"prompt": "Once"}, 1), ({"prompt": "The king"}, 3), ({}, 5)]
    assert f"{tmp_path / 'l.json'}, line 5: not a JSON object" in str(rows[2].error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3", "'3' at the beginning"),
        ('"x"', "at the beginning"),
        ("null", "at the beginning"),
        ('[{"a": 1}', "the list is never closed"),
        ('[{"a": 1}, {"a": "x', "the list is never closed"),
        ('{"a": 1', "the object is never closed"),
        ('[{"a": 1},]', "there is nothing at element 2"),
        ('[,{"a": 1}]', "there is nothing at element 1"),
        ('[{"a": 1}] x', "'x' after the list"),
        ('[{"a": 1}]\n[{"a": 2}]', "'[' after the list"),
        ('{"a": 1},{"a": 2}', "',' after object 1"),
        ("[" * 100_000, "the list is never closed"),
    ],
)
def test_json_that_is_no_list_of_objects_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(tmp_path / "a.json", content).message


def test_an_element_that_is_no_object_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.json", '[{"a": 1}, 2, [], "x", {"a": }, {"a": 3}]')
    assert [row.fields for row in rows] == [{"a": 1}, {}, {}, {}, {}, {"a": 3}]
    messages = [str(row.error) for row in rows[1:5]]
    kinds = ["row 2: a row must be a JSON object, not a number", "not a list", "not a string", "row 5: not a JSON object"]
    assert all(kind in message for kind, message in zip(kinds, messages, strict=True))


def test_an_empty_list_and_an_empty_file_have_no_rows(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.json", " [ \n ] \n") == []
    assert rows_of(tmp_path / "a.json", "") == []


@given(st.data())
def test_json_is_cut_into_elements_wherever_a_piece_of_the_file_ends(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    import json

    from llmkit.rows.json_rows import _Cutter

    rows = data.draw(st.lists(st.dictionaries(st.text(max_size=4), st.text() | st.lists(st.text(), max_size=3), max_size=3), min_size=1))
    text = json.dumps(rows) if data.draw(st.booleans()) else "\n".join(map(json.dumps, rows))
    cutter, elements, at = _Cutter("x"), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, 20))
        elements += list(cutter.cut(text[at : at + size]))
        at += size
    cutter.finish()
    assert [json.loads("".join(element.parts)) for element in elements] == rows


def test_a_jsonl_file_that_holds_a_json_list_names_the_other_format(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.jsonl", '[\n{"a": 1}\n]\n')
    assert rows[0].error is not None
    assert rows[0].error.hint is not None
    assert "`input_format` json" in rows[0].error.hint


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_time_and_memory_grow_with_the_length_of_deep_json(tmp_path: Path, ending: str) -> None:
    import subprocess
    import sys

    path = tmp_path / f"deep.{ending}"
    path.write_text(
        ("[" if ending == "json" else "") + '{"a":' + "[" * 1_000_000 + "]" * 1_000_000 + "}" + ("]" if ending == "json" else "")
    )
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from llmkit.rows import open_rows\nprint([str(row.error)[-35:] for row in open_rows(sys.argv[1])])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "more than 200 levels" in done.stdout, done.stderr


# Encodings and line ends


@pytest.mark.parametrize(
    "encoding", ["base64", "rot13", "hex", "zlib", "bz2", "punycode", "idna", "undefined", "nope", "", "a\0b", "\ud800"]
)
def test_an_encoding_that_is_none_of_text_is_refused(tmp_path: Path, encoding: str) -> None:
    error = refusal(tmp_path / "a.txt", "aGVsbG8K\n", encoding=encoding)
    assert "encoding" in error.message
    assert error.hint is not None
    assert "`encoding`" in error.hint


def test_utf16_without_a_byte_order_mark_names_the_two_orders(tmp_path: Path) -> None:
    error = refusal(tmp_path / "u16.txt", b"a\0", encoding="utf-16")
    assert "does not start with BOM" in error.message
    assert error.hint is not None
    assert "utf-16-le" in error.hint
    assert fields_of(tmp_path / "u16.txt", b"a\0\n\0", encoding="utf-16-le") == [{"text": "a"}]
    unnamed = refusal(tmp_path / "u16.txt", "hé\n".encode("utf-16-le"))
    assert unnamed.hint is not None
    assert "utf-16-le" in unnamed.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "UTF8", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_a_byte_order_mark_is_dropped_in_every_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    data = ("é\n" if encoding in ("utf-16", "utf-32", "utf-8-sig") else "\ufeffé\n").encode(encoding)
    assert fields_of(tmp_path / "a.txt", data, encoding=encoding) == [{"text": "é"}]


@pytest.mark.parametrize("ending", ["txt", "jsonl", "json", "csv"])
@pytest.mark.parametrize("data", [b"\xef", b"\xef\xbb"])
def test_the_beginning_of_a_byte_order_mark_is_no_text(tmp_path: Path, ending: str, data: bytes) -> None:
    assert "byte 1 (0xef) is not utf-8" in refusal(tmp_path / f"a.{ending}", data).message


@pytest.mark.parametrize(
    ("data", "what"),
    [(gzip.compress(b"{}", mtime=0), "gzip"), (b"PAR1\0\0", "parquet"), (b"PK\x03\x04\0\0", "a ZIP archive"), (b"\xfd7zXZ\x00\0", "xz")],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_file_that_holds_something_else_than_text_is_refused_by_what_it_is(tmp_path: Path, data: bytes, what: str, encoding: str) -> None:
    assert f"holds {what}" in refusal(tmp_path / "a.jsonl", data, encoding=encoding).message


def test_line_ends_and_blank_lines_of_text_are_rows_as_they_stand(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.txt", b"a\r\nb\rc\n\n \nd")
    assert [(row.fields["text"], row.line) for row in rows] == [("a", 1), ("b", 2), ("c", 3), ("", 4), (" ", 5), ("d", 6)]


@pytest.mark.parametrize("size", [(1 << 16) - 1, 1 << 16, (1 << 16) + 1])
def test_a_line_end_across_two_pieces_of_the_file_is_one(tmp_path: Path, size: int) -> None:
    assert fields_of(tmp_path / "a.txt", b"x" * (size - 1) + b"\r\ny\r") == [{"text": "x" * (size - 1)}, {"text": "y"}]


def test_one_text_is_read_without_byte_order_mark_and_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfThe king\r\n\r\nlived\r\n")
    assert read_text(str(tmp_path / "a")) == "The king\n\nlived"
    (tmp_path / "a").write_bytes("café".encode("latin-1"))
    assert read_text(str(tmp_path / "a"), "latin-1") == "café"


# Tables


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_inside_a_quoted_cell_stay_as_they_are(tmp_path: Path, end: str) -> None:
    rows = rows_of(tmp_path / "a.csv", f'a,b{end}1,"x{end}y"{end}2,z{end}')
    assert [(row.fields, row.line) for row in rows] == [({"a": "1", "b": f"x{end}y"}, 2), ({"a": "2", "b": "z"}, 4)]


def test_a_separator_inside_quotes_does_not_count(tmp_path: Path) -> None:
    assert fields_of(tmp_path / "h.csv", '"id, number";prompt\n1;Once\n') == [{"id, number": "1", "prompt": "Once"}]


@pytest.mark.parametrize("name", ["line, one\nline, two", "a, b\r\n\r\nc, d", 'say ""x, y""\nz, w'])
def test_a_separator_in_a_name_of_several_lines_does_not_count(tmp_path: Path, name: str) -> None:
    (row,) = rows_of(tmp_path / "h.csv", f'"{name}";prompt\n1;Once\n')
    assert row.fields == {name.replace('""', '"'): "1", "prompt": "Once"}
    assert row.line == 2 + len(name.splitlines()) - 1


def test_a_stray_quote_in_a_name_is_a_part_of_it(tmp_path: Path) -> None:
    assert fields_of(tmp_path / "h.csv", 'size 5",prompt\n1,"a; b; c"\n') == [{'size 5"': "1", "prompt": "a; b; c"}]


def test_a_cell_with_a_stray_quote_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.csv", 'a,b\n1,"he said "hi" to me"\n2,x\n')
    assert [row.fields for row in rows] == [{}, {"a": "2", "b": "x"}]
    assert f"{tmp_path / 'a.csv'}, line 2: not valid CSV" in str(rows[0].error)


def test_a_quote_that_is_never_closed_is_named_by_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path / "a.csv", 'a,b\n0,y\n1,"x\n2,z\n3,z\n')
    assert "line 3" in error.message
    assert "never closed" in error.message


@pytest.mark.parametrize(
    ("header", "message"), [("a,b,a", "column 'a' occurs twice (columns 1 and 3)"), (",a,", "two columns have no name")]
)
def test_columns_that_can_not_be_told_apart_are_refused(tmp_path: Path, header: str, message: str) -> None:
    assert message in refusal(tmp_path / "a.csv", f"{header}\n1,2,3\n").message


def test_one_column_may_have_no_name(tmp_path: Path) -> None:
    assert fields_of(tmp_path / "a.csv", ",a\n0,x\n") == [{"": "0", "a": "x"}]


def test_blank_lines_before_the_header_and_between_rows_are_skipped(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.csv", "\ufeff\r\n\r\na,b\r\n\r\n1,2\r\n")
    assert [(row.fields, row.line) for row in rows] == [({"a": "1", "b": "2"}, 5)]


def test_nul_bytes_in_a_table_are_text(tmp_path: Path) -> None:
    assert fields_of(tmp_path / "a.csv", b"a,b\n1,x\0y\n") == [{"a": "1", "b": "x\0y"}]


def test_a_cell_of_twenty_million_characters_is_read(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "a.csv", b"a,b\n1," + b"x" * 20_000_000)
    assert len(row.fields["b"]) == 20_000_000


def test_a_line_without_end_is_refused_in_bounded_memory() -> None:
    import subprocess
    import sys

    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))\n"
        "from llmkit.rows import open_rows\nlist(open_rows('/dev/zero', format=sys.argv[1]))"
    )
    for format in ("txt", "csv", "jsonl"):
        done = subprocess.run([sys.executable, "-c", code, format], capture_output=True, text=True, check=False)
        assert "/dev/zero, line 1: a line of more than 134,217,728 characters" in done.stderr


def test_quotes_that_enclose_no_cell_of_a_tsv_are_text(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "q.tsv", 'id\tprompt\n1\t"Once upon\n2\tThe king\n3\tthe end"\n4\t"a" b\n5\t"\n6\tx "y" z\n')
    assert [(row.fields["id"], row.fields["prompt"], row.line) for row in rows] == [
        ("1", '"Once upon', 2), ("2", "The king", 3), ("3", 'the end"', 4), ("4", '"a" b', 5), ("5", '"', 6), ("6", 'x "y" z', 7),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.text(st.sampled_from('ab"\t\n ,'), min_size=1), st.text(st.sampled_from('ab"\n ,'))), max_size=5))
def test_a_tsv_that_encloses_its_cells_in_quotes_comes_back(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]) -> None:
    import csv

    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("a", "b"), *((a.replace("\n\t", "\n"), b) for a, b in cells if "\t" not in a or "\n" not in a)])
    kept = [{"a": a, "b": b} for a, b in cells if "\t" not in a or "\n" not in a]
    assert [row.fields for row in open_rows(str(path))] == kept


def test_a_tsv_of_a_hundred_thousand_open_quotes_is_read_in_linear_time(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "q.tsv", "a\tb\n1\t2\n" + '"x\n' * 100_000)
    assert len(rows) == 100_001
    assert all(row.error is not None for row in rows[1:])


# Packed files


def test_several_members_of_a_gzip_file_are_one_text(tmp_path: Path) -> None:
    assert fields_of(tmp_path / "a.txt.gz", gzip.compress(b"a\nb", mtime=0) + gzip.compress(b"c\n", mtime=0)) == [
        {"text": "a"},
        {"text": "bc"},
    ]


@pytest.mark.parametrize("content", [gzip.compress(b"a\n" * 9999, mtime=0)[:-1], gzip.compress(b"a\n", mtime=0) + b"garbage", b"", b"a\n"])
def test_gzip_that_is_cut_off_or_goes_on_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    if content:
        assert "is not a complete gzip file" in refusal(tmp_path / "a.txt.gz", content).message
    else:
        assert rows_of(tmp_path / "a.txt.gz", content) == []


def test_a_packed_file_without_an_ending_of_its_own_is_read_whole(tmp_path: Path) -> None:
    lines = [f'{{"a": {number}, "x": "{os.urandom(20).hex()}"}}\n' for number in range(20_000)]
    assert len(rows_of(tmp_path / "rows.gz", gzip.compress("".join(lines).encode(), mtime=0))) == 20_000


# Names, pipes, devices


def test_the_ending_is_that_of_the_file_not_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "v1.2"
    folder.mkdir()
    assert fields_of(folder / "prompts", "Once\n") == [{"text": "Once"}]
    monkeypatch.chdir(folder)
    assert [row.fields for row in open_rows("./prompts")] == [{"text": "Once"}]
    assert fields_of(folder / "ROWS.JSONL", '{"a": 1}\n') == [{"a": 1}]


@pytest.mark.parametrize("ending", ["json", "csv", "txt"])
def test_a_pipe_is_read_in_every_format_that_streams(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"pipe.{ending}"
    os.mkfifo(path)
    content = {"json": '[{"text": "a"}]', "csv": "text\na\n", "txt": "a\n"}[ending]
    writer = threading.Thread(target=path.write_text, args=(content,))
    writer.start()
    assert [row.fields for row in open_rows(str(path))] == [{"text": "a"}]
    writer.join(PATIENCE)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_folder_and_a_device_end_with_an_error_or_no_rows(tmp_path: Path, format: str) -> None:
    with pytest.raises(InputError, match="is a folder"):
        open_rows(str(tmp_path), format=format)
    if format == "parquet":
        with pytest.raises(InputError, match="plain file"):
            list(open_rows("/dev/null", format=format))
    else:
        assert list(open_rows("/dev/null", format=format)) == []


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'text' occurs twice"):
        list(open_rows(str(tmp_path / "a.parquet")))
