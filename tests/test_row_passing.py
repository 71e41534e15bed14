"""Rows through the command line: what passes through is written back as it stood, wherever it goes."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from conftest import Process

from llmkit.cli.app import run

SHORT = ["--max-new-tokens", "2", "-q"]
PASSED = '"w": 1e999, "big": 18446744073709551616, "price": 0.1000, "list": [-0, 1E5], "text2": "\\ud800", "n": null'


def generate(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(["generate", *map(str, arguments), *SHORT])
    sys.stdout.flush()
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "w.jsonl"
    path.write_text('{"prompt": "a", ' + PASSED.replace("null", "NaN") + "}\n")
    return path


def test_numbers_keep_their_digits_on_the_way_to_standard_output(capfd: pytest.CaptureFixture[str], rows: Path) -> None:
    code, out, _ = generate(capfd, "-i", rows)
    assert code == 0
    assert PASSED in out


def test_numbers_keep_their_digits_on_the_way_through_the_journal(capfd: pytest.CaptureFixture[str], rows: Path, tmp_path: Path) -> None:
    assert generate(capfd, "-i", rows, "-o", tmp_path / "o.jsonl")[0] == 0
    written = (tmp_path / "o.jsonl").read_text()
    assert PASSED in written
    json.loads(written, parse_constant=lambda name: pytest.fail(name))


def test_numbers_keep_their_digits_in_the_cells_of_a_table(capfd: pytest.CaptureFixture[str], rows: Path, tmp_path: Path) -> None:
    assert generate(capfd, "-i", rows, "-o", tmp_path / "o.csv")[0] == 0
    with (tmp_path / "o.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["w"], row["big"], row["price"], row["list"]) == ("1e999", "18446744073709551616", "0.1000", "[-0, 1E5]")


def test_a_number_written_in_another_way_is_another_input(capfd: pytest.CaptureFixture[str], rows: Path, tmp_path: Path) -> None:
    assert generate(capfd, "-i", rows, "-o", tmp_path / "o.jsonl")[0] == 0
    before = (tmp_path / "o.jsonl").read_bytes()
    rows.write_text(rows.read_text().replace("0.1000", "0.1"))
    assert generate(capfd, "-i", rows, "-o", tmp_path / "o.jsonl")[0] == 2
    assert (tmp_path / "o.jsonl").read_bytes() == before


def test_a_run_whose_rows_have_such_numbers_is_complete_and_its_failed_rows_run_again(
    capfd: pytest.CaptureFixture[str], rows: Path, tmp_path: Path
) -> None:
    with rows.open("a") as file:
        file.write('{"prompt": null, "n": ' + "9" * 5000 + "}\n")
    target = tmp_path / "o.jsonl"
    assert generate(capfd, "-i", rows, "-o", target)[0] == 3
    before = target.read_bytes()
    assert generate(capfd, "-i", rows, "-o", target)[0] == 3
    assert generate(capfd, "-i", rows, "-o", target, "--retry-failed")[0] == 3
    assert target.read_bytes() == before


def test_a_binary_column_is_base64_in_the_output(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": ["a"], "data": pa.array([b"\x00\xff"])}), tmp_path / "a.parquet")
    code, out, _ = generate(capfd, "-i", tmp_path / "a.parquet")
    assert code == 0
    assert json.loads(out)["data"] == "AP8="


def test_a_row_nested_to_the_limit_passes_through_the_journal(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    deep = "[" * 199 + "]" * 199
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "a", "x": {deep}}}\n{{"prompt": "a", "x": [{deep}]}}\n{{"prompt": "a"}}\n')
    assert generate(capfd, "-i", tmp_path / "a.jsonl", "-o", tmp_path / "o.jsonl")[0] == 3
    first, second, third = (tmp_path / "o.jsonl").read_text().splitlines()
    assert f'"x": {deep}' in first
    assert "nested too deep" in second
    assert '"error"' not in third


@pytest.mark.parametrize("content", ['{"prompt": "Once"}', '{"data": [{"prompt": "Once"}]}', "3"])
def test_json_that_is_no_list_ends_with_2_and_one_error(capfd: pytest.CaptureFixture[str], tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content)
    code, out, err = generate(capfd, "-i", tmp_path / "d.json")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) <= 3


@pytest.mark.parametrize(
    ("name", "content", "template"),
    [
        ("t.txt", "A dog ran home.\n", "Summarize: {text}"),
        ("n.jsonl", '{"a": 3, "b": 4}\n', "What is {a} + {b}?"),
        ("sp.csv", "Customer Name,n\nAnn,1\n", "Dear {Customer Name}"),
    ],
)
def test_a_template_is_answered_on_every_kind_of_row(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: str, template: str
) -> None:
    (tmp_path / name).write_text(content)
    code, out, err = generate(capfd, "-i", tmp_path / name, "--template", template, "--output-format", "jsonl")
    assert code == 0, err
    assert json.loads(out)["completion_tokens"] == 2


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfThe king", b"The king\r\n", b"The king\n", b"The king\r"])
def test_a_piped_prompt_has_no_byte_order_mark_and_no_line_end(data: bytes) -> None:
    import subprocess

    command = [sys.executable, "-m", "llmkit", "generate", "-", "--json", *SHORT]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    assert json.loads(done.stdout)["prompt"] == "The king"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_piped_prompt_is_read_in_the_encoding_that_was_named(process: Process, encoding: str) -> None:
    done = process("generate", "--json", *SHORT, "--encoding", encoding, stdin="The café\r\n".encode(encoding))
    assert json.loads(done.out)["prompt"] == "The café"
