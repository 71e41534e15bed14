"""How results look: on a terminal of 80 columns, and as reports."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from conftest import Run, write_rows
from test_console import on_a_terminal

from llmkit.files import file_sha256

NARROW = {"COLUMNS": "80", "NO_COLOR": "1"}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """Saved outputs of eight rows, of which one is right, and their references."""
    lines = [f"the king number {n} lived in a house by the sea" for n in range(8)]
    outputs, references = tmp_path / "outputs-of-a-model-with-a-long-name.txt", tmp_path / "references.txt"
    outputs.write_text("".join(line.replace("king", "queen") + "\n" for line in lines[:-1]) + lines[-1] + "\n")
    references.write_text("".join(line + "\n" for line in lines))
    return outputs, references


def test_a_signature_is_whole_on_a_narrow_terminal(saved: tuple[Path, Path]) -> None:
    code, shown = on_a_terminal("evaluate", "score", "--metrics", "bleu,chrf", "-p", saved[0], "-r", saved[1], env=NARROW)
    assert code == 0
    assert re.search(r"^bleu +nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:[\d.]+\r$", shown, re.MULTILINE)
    assert re.search(r"^chrf +nrefs:1\|case:mixed\|eff:yes\|nc:6\|nw:0\|space:no\|version:[\d.]+\r$", shown, re.MULTILINE)


def test_a_signature_longer_than_the_terminal_is_broken_between_its_fields(run: Run, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("Once upon a time there was a king.\n")
    command = ("evaluate", "perplexity", "-i", tmp_path / "book.txt", "-q")
    whole = json.loads(run(*command, "--json").out)["signatures"]
    for columns in (80, 50):
        _, shown = on_a_terminal(*command, env=NARROW | {"COLUMNS": str(columns)})
        lines = re.sub(r"\x1b\[[\d;]*m|\r", "", shown).splitlines()
        assert all(len(line) <= columns for line in lines)
        for name, signature in whole.items():
            first = max(number for number, line in enumerate(lines) if line == name) + 1
            last = next(number for number in range(first, len(lines)) if not lines[number].endswith("|"))
            assert "".join(line.strip() for line in lines[first : last + 1]) == signature


def test_a_comparison_fits_a_narrow_terminal_and_marks_what_is_significant(run: Run, saved: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = tmp_path / "a-result-with-a-long-name.json", tmp_path / "another-result.json"
    command = ("evaluate", "score", "--metrics", "bleu,exact_match", "-r", saved[1], "--report")
    assert run(*command, before, "-p", saved[0]).code == 0
    assert run(*command, after, "-p", saved[1]).code == 0
    code, shown = on_a_terminal("evaluate", "compare", before, after, "-q", env=NARROW)
    assert code == 0
    lines = re.sub(r"\x1b\[[\d;]*m|\r", "", shown).splitlines()  # headings are bold
    assert lines[0] == f"{after} against {before}"
    assert lines[1].split() == ["metric", "score", "change", "95%", "interval", "effect", "p"]
    assert re.fullmatch(r"bleu +100 +\+[\d.]+ +\+[\d.]+ to \+[\d.]+ +\+?[\d.]* +[\d.e-]+ +better\*", lines[2].rstrip())
    assert lines[3].startswith("exact_match ")
    assert lines[-1] == "* significant: p < 0.05"
    assert all(len(line) <= 80 for line in lines[1:])
    code, shown = on_a_terminal("evaluate", "compare", before, after, "-q", env=NARROW | {"COLUMNS": "60"})
    assert code == 0
    narrow = re.sub(r"\x1b\[[\d;]*m|\r", "", shown)
    assert re.search(r"^bleu +100 +\+[\d.]+ ", narrow, re.MULTILINE)  # numbers and names are whole, and intervals are broken at spaces
    assert re.search(r"^exact_match +100 +\+87\.5 ", narrow, re.MULTILINE)
    assert "effect: the change in standard deviations" in " ".join(run("evaluate", "compare", "--help").out.split())


def test_a_models_card_is_broken_at_words_on_a_terminal_only(run: Run) -> None:
    _, shown = on_a_terminal("models", "show", "builtin:en-fr", env=NARROW | {"COLUMNS": "50"})
    card = shown.replace("\r", "").partition("# builtin:en-fr")[2]
    assert "\nA small Marian model that translates everyday\nEnglish sentences to French" in card
    assert "| one reference a line | " in card
    assert (
        "# builtin:en-fr\n\nA small Marian model that translates everyday English sentences to French"
        in run("models", "show", "builtin:en-fr").out
    )


def test_reports_of_saved_outputs_say_what_was_scored(run: Run, saved: tuple[Path, Path], tmp_path: Path) -> None:
    page, summary = tmp_path / "r.html", tmp_path / "r.md"
    assert run("evaluate", "bleu", "-p", saved[0], "-r", saved[1], "--report", page, "--report", summary).code == 0
    for text in (unescape(re.sub(r"<[^>]+>", "", page.read_text())), summary.read_text()):
        assert f"{saved[0]} against {saved[1]}" in text
        assert file_sha256(saved[0])[:12] in text
        assert file_sha256(saved[1])[:12] in text
        assert f"llmkit evaluate bleu -p {saved[0]} -r {saved[1]}" in text
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", text)
        assert re.search(r"llmkit \d+\.\d+", text)
    assert f"<title>{saved[0]} against" in page.read_text()


def test_a_page_says_which_way_is_better_and_what_its_histogram_leaves_out(run: Run, tmp_path: Path) -> None:
    texts = ["the king lived in a house by the sea"] * 60 + ["xq zj kv wq jz qx vk zw"]
    page = tmp_path / "r.html"
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"{text} {n}"} for n, text in enumerate(texts)])
    assert run("evaluate", "perplexity", "-i", rows, "--report", page, "--fail-if", "perplexity > 1e9").code == 0
    text = unescape(page.read_text())
    assert "builtin:stories on" in text
    assert "token_perplexity of a row (↓ lower is better)" in text
    assert "The dashed line is the score of all rows" in text
    assert re.search(r"The last bar also holds \d+ rows above [\d,.]+, up to [\d,.]+\.", text)
    assert "<th>result</th><th>gate</th><th>found</th>" in text
    assert 'class="verdict passed"' in text
    assert "<span>bos:yes</span>|<span>join:no</span>|" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("losses", [(1.4, 1.2, 1.0), (1.0, 1.2, 1.4), (1.4, 1.02, 1.0)], ids=["falling", "rising", "bent"])
def test_labels_of_the_scaling_plot_are_inside_its_axes_and_off_the_line(tmp_path: Path, losses: tuple[float, ...]) -> None:
    from matplotlib.text import Annotation, Text

    from llmkit.reports.scaling import Point, picture

    names = ("small.json", "middle.json", f"{'large-' * 5}$model.json")
    sizes = (14_000_000, 100_000_000, 400_000_000)
    figure = picture(
        [Point(n, size, loss, (loss * 0.98, loss * 1.02)) for n, size, loss in zip(names, sizes, losses, strict=True)], "bits_per_byte"
    )
    figure.savefig(tmp_path / "plot.png")
    (axes,) = figure.axes
    assert axes.get_title() == "Bits per byte against model size"
    frame, line = axes.get_window_extent(), axes.lines[0]
    corners = axes.transData.transform(line.get_xydata())
    for label in axes.texts:
        assert isinstance(label, Annotation)
        _, y = axes.transData.transform(label.xy)
        box = Text.get_window_extent(label)
        assert label.arrow_patch is not None or min(abs(box.y0 - y), abs(box.y1 - y)) < 30  # beside its point, or with a line to it
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        (x0, y0), (x1, y1) = corners
        heights = [y0 + (y1 - y0) * (x - x0) / (x1 - x0) for x in (box.x0, box.x1)]
        assert max(heights) < box.y0 or min(heights) > box.y1
