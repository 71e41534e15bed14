"""Help pages: common options on one screen with examples, all options on request, nothing lost on a terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Run

from llmkit.cli.app import app
from llmkit.cli.help import Page
from llmkit.version import HOMEPAGE

ROOT = Path(__file__).parent.parent
COLUMNS, LINES = 80, 24


def commands() -> dict[str, Any]:
    """Every command by the words that call it, groups among them."""
    found: dict[str, Any] = {"": typer.main.get_command(app)}
    pending = [""]
    while pending:
        path = pending.pop()
        group = found[path]
        for name, _ in getattr(group, "listed", list)():
            inner = group.get_command(typer.Context(group, info_name="llmkit"), name)
            found[f"{path} {name}".strip()] = inner
            pending.append(f"{path} {name}".strip())
    return found


COMMANDS = commands()


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_fits_a_screen_and_the_prompt_below_it(run: Run, command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert len(lines) < LINES
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_are_listed_on_request_with_their_whole_help(run: Run, command: str) -> None:
    page = " ".join(run(*command.split(), "--help-all").out.split())
    for parameter in COMMANDS[command].params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            assert parameter.opts[0] in page
            assert " ".join(parameter.help.split()) in page


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_shows_two_commands_that_parse_and_a_guide(run: Run, command: str) -> None:
    about: Page = COMMANDS[command].callback.page
    page = run(*command.split(), "--help").out
    assert len(about.examples) == 2
    assert f"Guide: {HOMEPAGE}/blob/main/docs/" in page
    for example in about.examples:
        assert example in page
        words = shlex.split(example.removeprefix("source <(").removesuffix(")"))[1:]
        words = words[: words.index(">")] if ">" in words else words
        node: Any = COMMANDS[""]
        while words and hasattr(node, "listed"):
            node = node.get_command(typer.Context(node, info_name="llmkit"), words.pop(0))
        with node.make_context("llmkit", words, resilient_parsing=True) as context:
            assert not [word for word in context.args if word.startswith("-")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guide_that_a_page_names_is_there(command: str) -> None:
    about: Page = COMMANDS[command].callback.page
    assert (ROOT / "docs" / f"{about.guide or 'README'}.md").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_short_page_are_options_of_the_command(command: str) -> None:
    about: Page = COMMANDS[command].callback.page
    known = {parameter.name for parameter in COMMANDS[command].params}
    assert set(about.common) <= known | ({"metrics"} if command == "evaluate bleu" else set())


@pytest.mark.parametrize("command", ["", "generate", "evaluate", "evaluate perplexity", "models", "models show"])
def test_help_is_a_command_too(run: Run, command: str) -> None:
    assert run("help", *command.split()).out == run(*command.split(), "--help").out


def test_a_terminal_shows_the_same_words_as_a_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = run("generate", "--help-all").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = run("generate", "--help-all").out
    assert "\x1b[1mModel\x1b[0m" in shown
    assert re.sub(r"\x1b\[\d+m", "", shown) == piped
    assert "org/name[@revision]" in piped
    assert "[default: 128]" in piped


def test_a_flag_is_shown_without_a_value(run: Run) -> None:
    assert re.search(r"--echo  +Print the prompt", run("generate", "--help-all").out)


def test_a_page_speaks_of_what_its_command_takes(run: Run) -> None:
    assert ".srt" in run("translate", "--help").out
    assert "openai:NAME" not in run("finetune", "--help-all").out
    assert "Folder for the result" in run("merge", "--help").out
    pages = {name: run(*name.split(), "--help-all").out for name in ("generate", "translate", "evaluate bleu")}
    texts = {name: " ".join(page.split()) for name, page in pages.items()}
    assert "How answers are written. [default: auto, by the file's ending]" in texts["generate"]
    assert "--prompt-field NAME Field that holds the prompt. [default: found by name]" in texts["generate"]
    assert "--from LANGUAGE Source language: a name or a code. [default: auto" in texts["translate"]
    assert "[default: floor 0.1, add-k 1]" in texts["evaluate bleu"]


def test_bleu_offers_no_options_of_other_metrics(run: Run) -> None:
    page = run("evaluate", "bleu", "--help-all").out
    assert "--smooth-method" in page
    assert not re.search(r"--(metrics|chrf|normalize)", page)
    ran = run("evaluate", "bleu", "-p", "x", "-r", "y", "--chrf-beta", "3")
    assert ran.code == 2
    assert "no such option --chrf-beta" in ran.err


def test_the_projects_address_is_the_packages() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Homepage"] == HOMEPAGE
