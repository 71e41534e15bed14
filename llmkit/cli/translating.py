"""The options of translations and of documents, and the input that they read: rows, or a document's segments.

Knows which options apply to what; not how anything is translated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.command import option_names, refuse
from llmkit.cli.inputs import NEEDS_FILE, only_with_input
from llmkit.cli.options import AnswersOut, RowsIn
from llmkit.cli.parsing import DECODING, INPUT, MODEL, SHOW, count_option, group, option
from llmkit.cli.parsing import language as language_name
from llmkit.errors import UsageError
from llmkit.rows import Rows, open_rows
from llmkit.rows.reading import FORMATS
from llmkit.translation.documents.formats import BECOMES, BINARY, DECLARED, INSTEAD, holds_rows, is_document, open_document
from llmkit.translation.documents.rows import DocumentWriter, document_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmkit.jobs.output import Writer
    from llmkit.tasks.route import Pivot
    from llmkit.tasks.translate import TranslationOptions
    from llmkit.translation.documents.base import Document
    from llmkit.translation.languages import Language

_CATALOGS = (".po", ".pot")
#: Options that do not apply to a list of languages.
_NOT_LISTED = (
    "num_beams", "max_new_tokens", "length_penalty", "n_best", "scores", "glossary", "json_output", "output_format", "chat_template",
)  # fmt: skip


@group
class LanguageOptions:
    """From which language, through which, into which."""

    source: Annotated[
        str | None,
        option(
            "--from",
            help="Source language: a name or a code. [default: auto, detects it]",
            panel=INPUT,
            metavar="LANGUAGE",
            parser=language_name,
        ),
    ] = None
    target: Annotated[str | None, option("--to", help="Target language.", panel=INPUT, metavar="LANGUAGE", parser=language_name)] = None
    languages: Annotated[bool, option("--languages", help="List the languages of the model, and exit.", panel=SHOW)] = False
    pivot: Annotated[
        str | None,
        option(
            "--pivot",
            help="Translate into this language first, then into the target.",
            panel=DECODING,
            metavar="LANGUAGE",
            parser=language_name,
        ),
    ] = None
    pivot_model: Annotated[
        str | None,
        option("--pivot-model", help="The model for the second step of a pivot. [default: the same]", panel=MODEL, metavar="REF"),
    ] = None

    @property
    def detect(self) -> bool:
        """Whether the source language is that of the text."""
        return self.source == "auto"

    def read(self) -> tuple[Language | None, Language | None, Pivot | None]:
        """Source, target and what is between. Raises UsageError, also for two steps of which one translates nothing."""
        from llmkit.tasks.route import Pivot
        from llmkit.translation.families import check_ends
        from llmkit.translation.languages import language

        if self.pivot is None and self.pivot_model is not None:
            raise UsageError("--pivot-model needs --pivot", hint="name the pivot language with --pivot")
        pivot = None if self.pivot is None else Pivot(language(self.pivot, "--pivot"), self.pivot_model)
        source = None if self.source is None or self.detect else language(self.source, "--from")
        target = None if self.target is None else language(self.target)
        check_ends(source, target if pivot is None else pivot.language)
        return source, target, pivot


@dataclass(frozen=True)
class TranslationAnswers:
    """How many translations of each text, and with what."""

    n_best: Annotated[int, count_option("--n-best", help="Return the N best translations of each text.", panel=DECODING)] = 1
    scores: Annotated[
        bool, option("--scores", help="Also write the mean log-probability of each translation's tokens.", panel=DECODING)
    ] = False
    glossary: Annotated[
        str | None,
        option("--glossary", help="Terms and their translations: .csv or .tsv of two columns, or .tbx.", panel=DECODING, metavar="FILE"),
    ] = None

    def options(self, output_field: str, document: Document | None, source: Language | None, target: Language | None) -> TranslationOptions:
        """How texts are translated. Raises what `read_glossary` raises."""
        from llmkit.tasks.translate import TranslationOptions
        from llmkit.translation.glossary_files import read_glossary

        terms = None if self.glossary is None else read_glossary(self.glossary, source, target)
        return TranslationOptions(output_field, document.keep if document else None, terms, self.n_best, self.scores)

    def writer(self, rows_out: AnswersOut, rows: Rows, document: Document | None, path: str | None, model: str) -> Writer | None:
        """What makes the bytes of the file `path`, or of standard output; None for the format of the file's ending. Raises UsageError."""
        answer, several, extra = rows_out.output_field, self.n_best > 1, "scores" if self.scores else None
        if document is not None:
            return DocumentWriter(document, answer) if path is None or is_document(path) else None
        if path is not None:
            return rows_out.writer(path, model, answer, several=several, extra=extra)
        return rows_out.stream(model, answer, lines=rows.plain, several=several, extra=extra)


@group
class CatalogOptions:
    """What happens to the fuzzy entries of a gettext catalog."""

    retranslate_fuzzy: Annotated[
        bool, option("--retranslate-fuzzy", help="In a .po file, also translate entries that are marked fuzzy.", panel=INPUT)
    ] = False
    mark_fuzzy: Annotated[bool, option("--mark-fuzzy", help="In a .po file, mark new translations fuzzy, for a reviewer.", panel=INPUT)] = (
        False
    )


_ABOUT_CATALOGS = option_names(CatalogOptions)


def refuse_other_forms(ctx: typer.Context, input: str | None, to_file: str | None) -> None:
    """Refuses what this form of `translate` would ignore: a list of languages, one text, rows or a document. Raises UsageError.

    to_file: the output, None for standard output.
    """
    listed = ctx.params["languages"]
    if input is not None and not listed:
        refuse(ctx, ("text", "json_output"), "cannot be combined with --input", hint="use only one of them")
    if input is None:
        only_with_input(ctx)
        refuse(ctx, _ABOUT_CATALOGS, "applies to .po files", hint="remove it")
    if to_file is None:
        refuse(ctx, NEEDS_FILE, "needs --output", hint="remove it, or add -o FILE")
    if listed:
        refuse(ctx, ("text", "input", "source", "target", "pivot", "pivot_model", *_NOT_LISTED), "cannot be combined with --languages")
    if ctx.params["pivot"] is not None and (ctx.params["n_best"] > 1 or ctx.params["scores"]):
        raise UsageError("--n-best and --scores cannot be combined with --pivot", hint="use only one of them")


def open_rows_or_document(
    ctx: typer.Context, rows_in: RowsIn, output: str | None, *, offline: bool, target: Language | None, notice: Callable[[str], None]
) -> tuple[Rows, Document | None]:
    """The rows of a file; of a document its segments. target: the language it is to be in. notice: called with what is left out.

    Raises InputError or UsageError.
    """
    input = rows_in.input or ""
    named = f".{rows_in.input_format}" if rows_in.input_format not in ("auto", *FORMATS) else None
    if named is None and (not is_document(input) or rows_in.input_format != "auto" or holds_rows(input)):
        refuse(ctx, _ABOUT_CATALOGS, "applies to .po files", hint="remove it")
        if rows_in.input_format == "auto" and (hint := INSTEAD.get(Path(input).suffix.lower())):
            raise UsageError(f"{input}: {Path(input).suffix} documents are not read", hint=hint)
        return open_rows(input, **rows_in.reading, offline=offline), None
    ending = named or Path(input).suffix.lower()
    _refuse_for_document(ctx, ending, output)
    how = {name: True for name in _ABOUT_CATALOGS if ctx.params[name]} if ending in _CATALOGS else {}
    document, data = open_document(input, target.tag if target else None, rows_in.encoding, named, **how)
    if fuzzy := getattr(document, "fuzzy", 0):
        notice(f"entries marked fuzzy, left unchanged: {fuzzy:,}; --retranslate-fuzzy translates them")
    return document_rows(document, data, input), document


def _refuse_for_document(ctx: typer.Context, ending: str, output: str | None) -> None:
    """Refuses outputs that a document of this ending does not become, and options that do not apply to it. Raises UsageError."""
    if output not in (None, "-") and Path(output or "").suffix.lower() not in (*BECOMES.get(ending, (ending,)), ".jsonl"):
        raise UsageError(f"a {ending} document is translated into one", hint=f"--output NAME{ending}, or .jsonl for its segments as rows")
    if ending in BINARY and output in (None, "-"):
        raise UsageError(f"a {ending} file cannot be written to standard output", hint=f"name a file with --output NAME{ending}")
    refuse(ctx, ("shard", "output_format"), "applies to rows, not to documents", hint="remove it")
    refuse(ctx, ("limit", "text_field", "n_best"), "applies to rows, not to documents", hint="remove it")
    if output in (None, "-") or is_document(output or ""):
        refuse(ctx, ("output_field", "scores"), "applies to rows, not to documents", hint="--output NAME.jsonl writes the segments as rows")
    else:
        refuse(ctx, ("mark_fuzzy",), "applies to .po files, not to rows", hint="remove it")
    if ending in BINARY | DECLARED:
        refuse(ctx, ("encoding",), f"does not apply to a {ending} file", hint="remove it")
    if ending not in _CATALOGS:
        refuse(ctx, _ABOUT_CATALOGS, "applies to .po files", hint="remove it")
