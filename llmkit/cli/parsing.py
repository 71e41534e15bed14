"""How an option is declared, and how its text becomes a value: counts, numbers, choices, times, shares.

An invalid value is refused while the command line is parsed, before anything heavy is imported.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

import typer

from llmkit.errors import did_you_mean
from llmkit.rows.reading import FORMATS
from llmkit.rows.values import from_json

_T = TypeVar("_T")

#: Panels of the help page.
MODEL, INPUT, DECODING, SCORING, RUN, SHOW = "Model", "Input and output", "Decoding", "Scoring", "Run", "Display"
DATA, LORA, TRAINING = "Data", "Adapter", "Training"

#: How a value is shown that is several names, separated by commas.
LIST = "NAME,..."

#: Names by which people know the library of an engine.
_LIBRARIES = {"pytorch": "torch", "transformers": "torch", "hf": "torch", "ct2": "ctranslate2"}
_SCALES = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE, _FALSE = {"1", "true", "yes", "on", "t", "y"}, {"0", "false", "no", "off", "f", "n"}


@dataclass_transform(frozen_default=True)
def group(cls: type[_T]) -> type[_T]:
    """Makes a class a group of options: a frozen dataclass without what nobody asks of one, since each method takes time at start."""
    return dataclass(frozen=True, eq=False, repr=False)(cls)


def option(*names: str, help: str, panel: str, callback: Callable[..., Any] | None = None, **more: Any) -> Any:
    """A Typer option whose environment variable follows from its long name: --top-p is LLMKIT_TOP_P."""
    long = next(n for n in names if n.startswith("--")).split("/")[0]
    variable = "LLMKIT_" + long.removeprefix("--").replace("-", "_").upper()
    return typer.Option(*names, help=help, rich_help_panel=panel, envvar=variable, show_envvar=False, callback=callback, **more)


def field_option(name: str, *, help: str, panel: str) -> Any:
    """An option that names a field of the rows, which is found by its usual names where nobody names it."""
    return option(name, help=f"{help} [default: found by name]", panel=panel, metavar="NAME")


def count_option(*names: str, help: str, panel: str) -> Any:
    """An option that takes a whole number of 0 or more, also as 10k, 2M or 1e3."""
    return option(*names, help=help, panel=panel, parser=count, metavar="N")


def number_option(*names: str, help: str, panel: str) -> Any:
    """An option that takes a number."""
    return option(*names, help=help, panel=panel, parser=number, metavar="NUMBER")


def choice_option(*names: str, help: str, panel: str, values: tuple[str, ...], aliases: Mapping[str, str] | None = None) -> Any:
    """An option with a fixed set of values, which the help line lists. aliases: other spellings, accepted and not listed."""
    listed = f"{', '.join(values[:-1])} or {values[-1]}"
    text = f"{help} One of {listed}." if help else f"{listed[0].upper()}{listed[1:]}."
    return option(*names, help=text, panel=panel, parser=choice(values, aliases or {}), metavar="NAME", autocompletion=lambda: list(values))


def count(value: Any) -> int | None:
    """A whole number of 0 or more, also as 10k, 2M or 1e3. Raises typer.BadParameter."""
    if value is None or isinstance(value, int):
        return value
    text = str(value).strip()
    scale = _SCALES.get(text[-1:].lower(), 1)
    try:
        number = float(text[:-1] if scale > 1 else text) * scale
        if number != int(number) or number < 0:
            raise ValueError
        return int(text) if scale == 1 and text.isdecimal() else int(number)  # a float does not hold every seed
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"'{value}' is not a whole number of 0 or more (10k, 2M and 1e3 are)") from None


def number(value: Any) -> float | None:
    """A number that is finite. Raises typer.BadParameter."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        text = str(value)
        hint = f" (write {text.replace(',', '.')})" if re.fullmatch(r"-?\d+,\d+", text) else " (0.7 and 2e-4 are)"
        raise typer.BadParameter(f"'{value}' is not a number{hint}")
    return number


def choice(values: tuple[str, ...], aliases: Mapping[str, str]) -> Callable[[str], str]:
    """A parser that takes one of `values`."""

    def parse(text: str) -> str:
        given = text.lower()
        name = aliases.get(given, given)
        if name not in values:
            hint = did_you_mean(given, [value for value in values if _digits(value) == _digits(given)])
            raise typer.BadParameter(f"'{text}' is not one of {', '.join(values)}" + (f"; {hint}" if hint else ""))
        return name

    return parse


def text_formats() -> list[str]:
    """Names of the formats of rows (json, too) and of documents."""
    from llmkit.translation.documents.formats import FORMATS as DOCUMENTS

    return list(dict.fromkeys(["auto", *FORMATS, *(ending[1:] for ending in DOCUMENTS)]))


def text_format(text: str) -> str:
    """A format of rows or of documents, by its usual ending. Raises typer.BadParameter."""
    from llmkit.translation.documents.formats import is_document

    name, known = text.lower().removeprefix("."), text_formats()
    if name not in known and not is_document(f"NAME.{name}"):
        hint = did_you_mean(name, known) or "md, html and srt are formats of documents"
        raise typer.BadParameter(f"'{text}' is not one of auto, {', '.join(FORMATS)}, and no document is named so; {hint}")
    return name


def _digits(text: str) -> str:
    """Its digits: float64 is no misspelling of float16."""
    return re.sub(r"\D", "", text)


def json_object(text: str) -> str:
    """A JSON object, written in one way, so that its spaces and order are no difference. Raises typer.BadParameter."""
    try:
        value, reason = from_json(text), ""
    except ValueError as exc:
        value, reason = None, f": {exc}"
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{text[:60]!r} is not a JSON object{reason}")
    # half a surrogate pair is JSON, and no text that a record could hold
    return json.dumps(value, sort_keys=True, ensure_ascii=re.search(r"\\u[dD][89a-fA-F]", text) is not None)


def device(text: str) -> str:
    """auto, cpu, cuda, cuda:N, mps, xpu or xpu:N. Raises typer.BadParameter."""
    text = text.lower()
    kind, _, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps", "xpu") or (":" in text and (kind not in ("cuda", "xpu") or not index.isdecimal())):
        raise typer.BadParameter(f"'{text}' is not one of auto, cpu, cuda, cuda:N, mps, xpu")
    return text


def engine(text: str) -> str:
    """auto, or the name of an engine, also of its library. Raises typer.BadParameter, UnavailableError for a package's broken one."""
    if text == "auto":
        return text
    from llmkit.engines.registry import engines

    known = ("auto", *engines())
    return text if text in known else choice(known, _LIBRARIES)(text)


def yes_or_no(value: Any) -> bool:
    """The truth that a text names; a truth value is one. Raises typer.BadParameter."""
    chosen = value if isinstance(value, bool) else truth(str(value))
    if chosen is None:
        raise typer.BadParameter(f"'{value}' is neither true nor false")
    return chosen


def truth(text: str) -> bool | None:
    """Whether a text says yes or no; None for one that says neither."""
    return True if text.lower() in _TRUE else False if text.lower() in _FALSE else None


def duration(text: str | None) -> str | None:
    """A text that `seconds` understands. Raises typer.BadParameter."""
    seconds(text)
    return text


def seconds(text: str | None) -> float | None:
    """Seconds in '90', '90s', '55m' or '2h'. Raises typer.BadParameter."""
    if text is None:
        return None
    scale = _SECONDS.get(text[-1:])
    try:
        number = float(text[:-1] if scale else text) * (scale or 1.0)
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise typer.BadParameter(f"'{text}' is not a time (90s, 55m and 2h are)")
    return number


def shard(text: str) -> str:
    """A part of a job as I/N, with 1 <= I <= N. Raises typer.BadParameter."""
    from llmkit.errors import UsageError
    from llmkit.jobs.shards import parse_shard

    try:
        return str(parse_shard(text))
    except UsageError:
        raise typer.BadParameter(f"'{text}' is not a part I/N (1/8 is the first of eight)") from None


def share(text: str | None) -> str | None:
    """A text that `fraction` understands. Raises typer.BadParameter."""
    fraction(text)
    return text


def fraction(text: str | None) -> float:
    """A share in '5%' or '0.05', 0 for None. Raises typer.BadParameter."""
    if text is None:
        return 0.0
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"'{text}' is not a share of the rows (5% and 0.05 are)")
    return value


def batch_size(text: str) -> str:
    """A text that `rows_a_batch` understands. Raises typer.BadParameter."""
    rows_a_batch(text)
    return text


def rows_a_batch(text: str) -> int | None:
    """Rows per batch, None for auto. Raises typer.BadParameter."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"'{text}' is neither auto nor a number of 1 or more")
    return int(text)


def encoding(text: str) -> str:
    """The name of a text encoding that Python knows. Raises typer.BadParameter."""
    import codecs

    try:
        codecs.lookup(text)
    except (LookupError, ValueError):
        raise typer.BadParameter(f"'{text}' is not an encoding (utf-8, latin-1 and cp1252 are)") from None
    return text


def language(text: str) -> str:
    """The name or code of a language, or auto. Raises typer.BadParameter."""
    from llmkit.errors import UsageError
    from llmkit.translation.languages import language as language_of

    if text == "auto":
        return text
    try:
        language_of(text)
    except UsageError as exc:
        raise typer.BadParameter(f"'{text}' is not a language" + (f"; {exc.hint}" if exc.hint else "")) from None
    return text
