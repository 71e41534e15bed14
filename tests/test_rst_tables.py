"""Tables and directives of reStructuredText: every text that people read is translated, and the lines of a table fit it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_document_corpus import answered

from llmkit.translation.documents import rst, tex
from llmkit.translation.documents.verification import verify

GRID = """\
+-------+---------+
| Head  | Other   |
+=======+=========+
| cell  | two     |
| goes  | ``x y`` |
+-------+---------+
| **b** | - list  |
|       | - more  |
+-------+---------+
"""
SIMPLE = """\
=====  =======
Col A  Col B
=====  =======
one    two words that go over
three  four
       goes on
=====  =======
"""


def built(source: str, model: Callable[[str], str] = str.upper, left: tuple[int, ...] = ()) -> str:
    document = rst.parse(source.encode(), "a.rst")
    assert document.build(answered(document, lambda text: text)) == source.encode()
    made = verify(document, answered(document, model))
    assert made.left == left
    return made.data.decode()


def test_the_cells_of_a_grid_table_are_translated_and_its_lines_grow_with_them() -> None:
    assert built(GRID) == GRID.replace("Head", "HEAD").replace("Other", "OTHER").replace("cell", "CELL").replace("goes", "GOES").replace(
        "two", "TWO"
    ).replace("**b**", "**B**")
    longer = built(GRID, lambda text: text.replace("Other", "Unbreakable"))
    assert longer.splitlines()[:3] == ["+-------+-------------+", "| Head  | Unbreakable |", "+=======+=============+"]
    assert len({len(line) for line in longer.splitlines()}) == 1


def test_a_longer_text_goes_over_more_lines_of_its_cell() -> None:
    lines = built("+------+-----+\n| a b  | cat |\n+------+-----+\n", lambda text: text.replace("cat", "the cat is")).splitlines()
    assert lines == ["+------+-----+", "| a b  | the |", "|      | cat |", "|      | is  |", "+------+-----+"]


def test_the_cells_of_a_simple_table_are_translated_and_the_first_column_is_not_wrapped() -> None:
    lines = built(SIMPLE, lambda text: text.replace("three", "three and more").upper()).splitlines()
    assert lines[1].split() == ["COL", "A", "COL", "B"]
    assert lines[4].startswith("THREE AND MORE  FOUR GOES ON")
    assert lines[0] == lines[2] == lines[-1]


@pytest.mark.parametrize("model", [str.upper, lambda text: f"{text} {text}", lambda text: " ".join(reversed(text.split()))])
@pytest.mark.parametrize("source", [GRID, SIMPLE, "  " + SIMPLE.replace("\n", "\n  ").rstrip(" ")])
def test_no_words_break_a_table(source: str, model: Callable[[str], str]) -> None:
    document = rst.parse(source.encode(), "a.rst")
    made = verify(document, answered(document, model))
    assert made.left == ()
    assert document.skeleton(made.data) == document.skeleton(source.encode())


def test_a_table_with_a_cell_over_several_columns_stays() -> None:
    source = "+---+---+\n| a | b |\n+---+---+\n| span  |\n+---+---+\n"
    assert built(source) == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('.. csv-table:: My cat\n   :header: "A x", "B y"\n\n   "x", "the ""y"" cat"\n', '"A X", "B Y"\n\n   "X", "THE ""Y"" CAT"\n'),
        (".. image:: a.png\n   :alt: The cat\n", ":alt: THE CAT\n"),
        (".. toctree::\n   :caption: The cat\n\n   intro\n", ":caption: THE CAT\n\n   intro\n"),
        (".. py:function:: foo(x)\n\n   Does the thing.\n", ".. py:function:: foo(x)\n\n   DOES THE THING.\n"),
        (".. versionadded:: 2.0 Added words\n", ".. versionadded:: 2.0 ADDED WORDS\n"),
        (".. unknown:: The cat\n\n   the house\n", ".. unknown:: The cat\n\n   the house\n"),
        ("2*3*4 and *x y*.\n", "2*3*4 AND *X Y*.\n"),
        ("With ``code``, :ref:`label`, |sub|, [1]_, name_.\n", "WITH ``code``, :ref:`label`, |sub|, [1]_, name_.\n"),
    ],
)
def test_what_people_read_in_directives_is_translated(source: str, expected: str) -> None:
    assert built(source).endswith(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"\colorbox{blue}{the box} and \fbox{the frame}", r"\colorbox{blue}{THE BOX} AND \fbox{THE FRAME}"),
        (r"\multicolumn{2}{c}{the cells} & b c", r"\multicolumn{2}{c}{THE CELLS} & B C"),
        (r"\parbox[t]{3cm}{the words} \todo{do it}", r"\parbox[t]{3cm}{THE WORDS} \todo{DO IT}"),
        (r"\begin{theorem}[The name] the text. \end{theorem}", r"\begin{theorem}[THE NAME] THE TEXT. \end{theorem}"),
        (r"Bold \textbf{words}, $x_i$ math, \cite{a}, \ref{b}.", r"BOLD \textbf{WORDS}, $x_i$ MATH, \cite{a}, \ref{b}."),
    ],
)
def test_what_people_read_in_commands_of_latex_is_translated(source: str, expected: str) -> None:
    document = tex.parse(f"{source}\n".encode(), "a.tex")
    made = verify(document, answered(document, str.upper))
    assert (made.data.decode(), made.left) == (f"{expected}\n", ())
