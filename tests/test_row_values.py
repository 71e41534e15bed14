"""What a row may hold, and that what passes through is written back as it stood."""

from __future__ import annotations

import datetime
import decimal
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.rows import open_rows
from llmkit.rows.fields import PromptFields
from llmkit.rows.reading import Row
from llmkit.rows.values import MAX_DEPTH, Number, from_json, plain_value, to_json


def rows_of(path: Path, content: str | bytes, **options: Any) -> list[Row]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(open_rows(str(path), **options))


@pytest.fixture(params=["jsonl", "json"])
def one_row(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Reads one row of JSON from a file of lines, and from a list."""

    def read(text: str) -> Row:
        (row,) = rows_of(tmp_path / f"a.{request.param}", text if request.param == "jsonl" else f"[{text}]")
        return row

    return read


@pytest.mark.parametrize(
    "number", ["0", "-0", "7", "0.1", "0.1000", "-0.0", "1E5", "1e999", "-1e-999", "18446744073709551616", "3.14159265358979323846264338"]
)
def test_a_number_keeps_its_digits(one_row: Any, number: str) -> None:
    assert to_json(one_row(f'{{"n": {number}, "list": [{number}]}}').fields) == f'{{"n": {number}, "list": [{number}]}}'


def test_a_number_of_many_digits_keeps_them(one_row: Any) -> None:
    digits = "9" * 100_000
    assert to_json(one_row(f'{{"n": {digits}}}').fields) == f'{{"n": {digits}}}'


@pytest.mark.parametrize(("name", "written"), [("NaN", "null"), ("Infinity", "1e999"), ("-Infinity", "-1e999")])
def test_numbers_that_json_does_not_have_are_written_as_what_it_has(one_row: Any, name: str, written: str) -> None:
    row = one_row(f'{{"n": {name}}}')
    assert row.error is None
    assert to_json(row.fields) == to_json({"n": float(name)}) == f'{{"n": {written}}}'


def test_numbers_are_ordinary_numbers_to_python() -> None:
    value = from_json("0.1000")
    assert value == 0.1
    assert isinstance(value, float)
    assert type(from_json("0.1")) is float
    assert type(from_json("3")) is int
    again = pickle.loads(pickle.dumps(Number("1E5")))
    assert (again, again.literal) == (100_000.0, "1E5")


def test_half_a_surrogate_pair_passes_through_as_an_escape(one_row: Any) -> None:
    text = '{"\\ud800": "a\\udfff \\ud83d\\ude00 é"}'
    written = to_json(one_row(text).fields)
    assert json.loads(written) == json.loads(text)
    written.encode("utf-8")


def test_a_field_that_occurs_twice_is_an_error_of_the_row(one_row: Any) -> None:
    assert "field 'a' occurs twice" in str(one_row('{"a": 1, "b": {"a": 1, "a": 1}}').error)
    assert "field 'a' occurs twice" in str(one_row('{"a": 1, "a": 1}').error)


def test_a_row_is_nested_up_to_the_limit(one_row: Any) -> None:
    deepest = MAX_DEPTH - 1
    text = '{"a": ' + "[" * deepest + "]" * deepest + "}"
    assert to_json(one_row(text).fields) == text


@pytest.mark.parametrize("depth", [MAX_DEPTH, 3_000, 20_000, 1_000_000])
def test_a_row_nested_deeper_is_an_error_and_the_next_is_read(tmp_path: Path, depth: int) -> None:
    deep = '{"a": "[", "x": ' + "[" * depth + "]" * depth + "}"
    for name, text in (("a.json", f'[{deep}, {{"a": 1}}]'), ("a.jsonl", f'{deep}\n{{"a": 1}}\n')):
        rows = rows_of(tmp_path / name, text)
        assert "nested too deep (more than 200 levels)" in str(rows[0].error)
        assert rows[1].fields == {"a": 1}


def test_brackets_inside_strings_are_no_nesting(one_row: Any) -> None:
    text = json.dumps({"a": "[{" * 5_000 + '\\"', "b": '"]}'})
    assert one_row(text).fields == json.loads(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_to_json_writes_what_json_dumps_writes(value: Any) -> None:
    assert json.loads(to_json(value)) == value
    assert from_json(to_json(value)) == value
    assert to_json(value) == json.dumps(value, ensure_ascii=False)


def test_values_of_typed_columns_get_a_form_by_name() -> None:
    day = datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC)
    values = [day, day.date(), day.time(), decimal.Decimal("1.10"), datetime.timedelta(seconds=1.5), b"\x00\xff", float("nan"), ("a", 1)]
    written = [
        '"2024-02-29T01:02:03+00:00"', '"2024-02-29"', '"01:02:03"', "1.10", "1.5", '"AP8="', "null", '["a", 1]',
    ]  # fmt: skip
    assert [to_json(plain_value(value)) for value in values] == written


@pytest.mark.parametrize(("value", "name"), [(object(), "object"), ({1, 2}, "set"), ({"a": [1j]}, "complex"), ({1: 2}, "not text")])
def test_a_value_that_json_does_not_have_is_refused_by_its_type(value: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        plain_value(value)


def test_a_typed_parquet_column_passes_through(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "prompt": ["a"],
            "data": pa.array([b"\x00\xff"]),
            "day": pa.array([datetime.date(2024, 2, 29)]),
            "price": pa.array([decimal.Decimal("1.10")]),
            "ratio": pa.array([float("nan")]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = open_rows(str(tmp_path / "a.parquet"))
    assert to_json(row.fields) == '{"prompt": "a", "data": "AP8=", "day": "2024-02-29", "price": 1.10, "ratio": null}'


def test_binary_is_not_a_prompt(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": pa.array([b"hello"])}), tmp_path / "a.parquet")
    (row,) = open_rows(str(tmp_path / "a.parquet"))
    with pytest.raises(Exception, match=r"row 1: field 'prompt' is binary; text expected"):
        PromptFields().prompt(row, str(tmp_path / "a.parquet"))


def test_a_date_beyond_the_year_9999_is_an_error_of_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    days = pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"prompt": ["a", "b"], "day": days}), tmp_path / "d.parquet")
    first, second = open_rows(str(tmp_path / "d.parquet"))
    assert "row 1: column 'day' can't be read" in str(first.error)
    assert second.fields == {"prompt": "b", "day": "1970-01-01"}


def test_parquet_text_that_is_not_utf8_is_an_error_of_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")])
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "u.parquet")
    first, second = open_rows(str(tmp_path / "u.parquet"))
    assert first.fields == {"prompt": "a"}
    assert "row 2: column 'prompt' can't be read" in str(second.error)


def digest(path: Path, content: str | bytes, **options: Any) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = open_rows(str(path), **options)
    for _ in rows:
        pass
    return rows.rows_sha256


def test_the_hash_of_the_rows_is_known_with_a_limit_and_is_that_of_the_rows_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    two = digest(path, '{"a": 1}\n{"a": 2}\n')
    assert digest(path, '{"a": 1}\n{"a": 2}\n{"a": 3}\n', max_rows=2) == two
    assert digest(path, '{"a": 1}\n{"a": 2}\n{"a": 3}\n') != two
    assert digest(path, '{"a": 1}\n', max_rows=2) != two
    assert digest(path, '{"a": 2}\n{"a": 1}\n') != two
    assert digest(path, '{"a": 1}\n{"a": 2.0}\n') != two
    assert digest(path, '{"a": 1}\n{"a": \n') != two


def test_the_hash_of_the_rows_is_of_their_content_not_of_the_file(tmp_path: Path) -> None:
    lines = digest(tmp_path / "a.jsonl", '{"a":1, "b":"é"}\r\n\n{"a":2,"b":"y"}')
    assert digest(tmp_path / "a.json", '[{"a": 1, "b": "\\u00e9"}, {"a": 2, "b": "y"}]') == lines
    assert digest(tmp_path / "b.json", '[{"b": "é", "a": 1}, {"a": 2, "b": "y"}]') != lines


def test_an_encoding_that_reads_other_characters_gives_another_hash(tmp_path: Path) -> None:
    data = '{"prompt": "café"}\n'.encode()
    assert digest(tmp_path / "a.jsonl", data) != digest(tmp_path / "a.jsonl", data, encoding="latin-1")
