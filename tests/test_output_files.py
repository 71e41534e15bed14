"""Files are replaced only by something whole, and only ours are touched."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import Run, read_rows, write_rows

from llmkit.errors import OutputError
from llmkit.files import MAX_NAME, acquire, companion, remove_files, replace_folder, write_whole

SHORT = ["--max-new-tokens", "2"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "in.jsonl", [{"id": 1, "prompt": None}, {"id": 2, "prompt": "Once upon a", "late": "keep"}, {"prompt": "The"}]
    )


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_table_has_the_columns_of_all_rows_and_the_answers(run: Run, rows: Path, tmp_path: Path, ending: str, separator: str) -> None:
    out = tmp_path / f"out.{ending}"
    assert run("generate", "-i", rows, "-o", out, *SHORT).code == 3
    with out.open(newline="") as file:
        table = list(csv.DictReader(file, delimiter=separator))
    assert {"id", "prompt", "late", "text", "finish_reason", "error"} <= table[0].keys()
    assert [bool(row["error"]) for row in table] == [True, False, False]
    assert [bool(row["text"]) for row in table] == [False, True, True]
    assert [row["late"] for row in table] == ["", "keep", ""]


def test_a_table_of_failed_rows_still_has_the_answers_column(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": None}])
    assert run("generate", "-i", rows, "-o", tmp_path / "out.csv", *SHORT).code == 3
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "prompt,text,error"


def test_a_table_with_several_answers_has_the_column_of_their_list(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": None}, {"prompt": "The"}])
    several = ["-i", rows, *SHORT, "-n", "2", "--num-beams", "2", "-o"]
    assert run("generate", *several, tmp_path / "out.csv").code == 3
    columns = "prompt,texts,finish_reason,prompt_tokens,completion_tokens,error"
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == columns
    run("generate", *several, tmp_path / "shards.csv", "--shard", "1/1")
    run("gather", tmp_path / "shards.csv")
    assert (tmp_path / "shards.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_several_samples_do_not_fit_a_line_of_text(run: Run, rows: Path, tmp_path: Path) -> None:
    ran = run("generate", "-i", rows, "-o", tmp_path / "out.txt", "-n", "2", "--temperature", "1", "-m", "no-such-folder/")
    assert ran.code == 2
    assert "one answer per line" in ran.err


@pytest.mark.parametrize("name", ["poetry.lock", "out.jsonl.lock", ".out.jsonl.lock"])
def test_a_users_lock_file_is_not_touched(run: Run, rows: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a lock file of another tool\n")
    run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT)
    assert (tmp_path / name).read_text() == "a lock file of another tool\n"


def test_a_file_of_another_kind_at_the_locks_name_is_refused(tmp_path: Path) -> None:
    place = companion(tmp_path / "out.jsonl", "llmkit-lock", hidden=True)
    place.write_text("notes of mine\n")
    with pytest.raises(OutputError, match="not a lock"):
        acquire(tmp_path / "out.jsonl", "out.jsonl")
    assert place.read_text() == "notes of mine\n"


@pytest.mark.parametrize(
    "content", [b"my diary without a line end", b"my diary\n", b"0123abcd {x", b'zzzzzzzz {"journal"', b"\x00" * 40], ids=repr
)
def test_a_users_file_at_the_journals_name_is_refused_and_kept(run: Run, rows: Path, tmp_path: Path, content: bytes) -> None:
    journal = tmp_path / "out.jsonl.journal"
    journal.write_bytes(content)
    for extra in ([], ["--restart"]):
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT, "-m", "no-such-folder/", *extra)
        assert ran.code == 2
        assert "not a journal" in ran.err
        assert journal.read_bytes() == content


@pytest.mark.parametrize("torn", [b"", b"0", b"0123abcd", b'0123abcd {"jou'])
def test_a_torn_header_is_a_new_beginning(run: Run, tmp_path: Path, torn: bytes) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}])
    (tmp_path / "out.jsonl.journal").write_bytes(torn)
    assert run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT).code == 0


@pytest.mark.parametrize("content", ["{}", '{"note": "mine"}', "[1]", "notes"])
def test_a_users_file_at_the_records_name_is_refused_and_kept(run: Run, rows: Path, tmp_path: Path, content: str) -> None:
    record = tmp_path / "out.jsonl.run.json"
    record.write_text(content)
    for extra in ([], ["--overwrite"], ["--restart"]):
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT, "-m", "no-such-folder/", *extra)
        assert ran.code == 2
        assert f"{record}: not a run record" in ran.err
        assert record.read_text() == content


def test_a_users_file_of_a_part_is_kept(run: Run, tmp_path: Path) -> None:
    rows, part = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}]), tmp_path / "out.jsonl.part"
    part.write_text("half a download")
    assert run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT).code == 0
    assert part.read_text() == "half a download"


@pytest.mark.parametrize("name", ["out.jsonl.journal", ".out.jsonl.llmkit-part", "out.jsonl.run.json"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "hard link"])
def test_what_is_not_our_own_regular_file_is_refused_before_any_work(run: Run, rows: Path, tmp_path: Path, name: str, kind: str) -> None:
    place, precious = tmp_path / name, tmp_path / "precious"
    precious.write_text("keep")
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to(precious)
    else:
        place.hardlink_to(precious)
    ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT, "-m", "no-such-folder/")
    assert ran.code == 2
    assert str(place) in ran.err
    assert precious.read_text() == "keep"


@pytest.mark.parametrize("name", [".out.jsonl.llmkit-part", ".out.jsonl.run.json.llmkit-part", ".report.json.llmkit-part"])
def test_a_users_file_in_the_place_of_an_unfinished_one_is_kept(run: Run, rows: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("keep")
    if "report" in name:
        ran = run("evaluate", "perplexity", "-i", rows, "--text-field", "prompt", "--report", tmp_path / "report.json")
    else:
        ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *SHORT)
    assert ran.code == 2
    assert f"{name}: a file is in the place of" in ran.err
    assert (tmp_path / name).read_text() == "keep"


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused_as_one(run: Run, rows: Path, name: str) -> None:
    ran = run("generate", "-i", rows, "-o", name, *SHORT)
    assert ran.code == 2
    assert "name is empty" in ran.err


def test_a_fifo_is_no_output_to_be_replaced(run: Run, rows: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.jsonl")
    ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", "--overwrite", *SHORT)
    assert ran.code == 2
    assert "not a regular file" in ran.err
    assert (tmp_path / "out.jsonl").is_fifo()


@pytest.mark.parametrize("name", ["a" * (MAX_NAME - 6) + ".jsonl", "é" * 120 + ".jsonl"])
def test_a_name_as_long_as_names_can_be_is_written(run: Run, tmp_path: Path, name: str) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}])
    assert run("generate", "-i", rows, "-o", tmp_path / name, *SHORT).code == 0
    assert len(read_rows(tmp_path / name)) == 1
    assert "already complete" in run("generate", "-i", rows, "-o", tmp_path / name, *SHORT).err


def test_a_longer_name_is_refused_before_a_model_is_loaded(run: Run, rows: Path, tmp_path: Path) -> None:
    ran = run("generate", "-i", rows, "-o", tmp_path / ("a" * 250 + ".jsonl"), "-m", "no-such-folder/", *SHORT)
    assert ran.code == 2
    assert "256 bytes" in ran.err


@pytest.mark.parametrize("option", ["-o", "-i", "--config"])
def test_a_path_longer_than_any_is_refused_wherever_one_is_given(run: Run, rows: Path, tmp_path: Path, option: str) -> None:
    given = {"-i": rows, "-o": tmp_path / "out.jsonl"} | {option: tmp_path / "/".join(["d" * 200] * 25) / "out.jsonl"}
    ran = run("generate", *SHORT, *(word for pair in given.items() for word in pair))
    assert ran.code == 2
    assert "File name too long" in ran.err


def test_a_run_that_did_nothing_does_not_stand_in_the_way_of_the_corrected_command(run: Run, tmp_path: Path) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes('{"prompt": "Once"}\n'.encode("utf-16"))
    assert run("generate", "-i", rows, "-o", out, *SHORT).code == 2
    assert run("generate", "-i", rows, "-o", out, *SHORT, "--encoding", "utf-16").code == 0
    assert len(read_rows(out)) == 1


def test_lines_of_another_runs_journal_are_refused(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once"}, {"prompt": 3}])
    journals = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.jsonl"
        assert run("generate", "-i", rows, "-o", out, *SHORT, "--seed", seed, "--max-errors", "0").code == 3
        journals.append(Path(f"{out}.journal"))
    first, second = (path.read_bytes().splitlines(keepends=True) for path in journals)
    journals[0].write_bytes(b"".join([first[0], *second[1:]]))
    ran = run("generate", "-i", rows, "-o", tmp_path / "1.jsonl", *SHORT, "--seed", "1")
    assert ran.code == 2
    assert "damaged or edited" in ran.err


def test_a_whole_file_replaces_and_a_failed_one_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "one")

    def broken() -> object:
        yield b"two"
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_whole(path, broken())  # type: ignore[arg-type]
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_replaced_or_stays(tmp_path: Path) -> None:
    old, new = tmp_path / "model", tmp_path / "model.part"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "config.json").write_text(text)
    with pytest.raises(OSError, match="missing"):
        replace_folder(tmp_path / "missing", old)
    assert (old / "config.json").read_text() == "old"
    replace_folder(new, old)
    assert (old / "config.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_is_replaced_also_where_the_old_one_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "model", tmp_path / "model.part"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "config.json").write_text(text)

    def refused(path: Path) -> None:
        raise OSError("busy")

    monkeypatch.setattr(shutil, "rmtree", refused)
    left = replace_folder(new, old)
    assert left is not None
    assert (left / "config.json").read_text() == "old"
    assert (old / "config.json").read_text() == "new"


def test_only_the_files_of_a_manifest_are_removed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "thesis.tex"
    (folder / "checkpoints" / "1").mkdir(parents=True)
    (folder / "mine").mkdir()
    for path in (folder / "a", folder / "checkpoints" / "1" / "b", folder / "mine" / "c", outside):
        path.write_text("x")
    remove_files(folder, ["a", "checkpoints/1/b", "../thesis.tex", "missing"])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == ["folder/mine/c", "thesis.tex"]
    assert not (folder / "checkpoints").exists()


def test_the_lock_stays_and_refuses_a_second_holder(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first = acquire(path, "out.jsonl")
    with pytest.raises(OutputError, match=f"process {os.getpid()}"):
        acquire(path, "out.jsonl")
    first.release()
    assert companion(path, "llmkit-lock", hidden=True).exists()
    acquire(path, "out.jsonl").release()


def test_what_is_no_text_stands_as_json_in_a_cell(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "Once", "meta": {"a": [1]}, "good": True, "much": 1e999, "none": None}])
    assert run("generate", "-i", rows, "-o", tmp_path / "out.csv", *SHORT).code == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["meta"]) == {"a": [1]}
    assert (row["good"], row["much"], row["none"]) == ("true", "1e999", "")
