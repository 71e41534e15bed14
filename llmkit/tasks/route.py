"""How a text is translated: by one model, or through a third language by one or two models.

Knows engines, families of models and languages; not rows or files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llmkit.engines.base import Engine
from llmkit.engines.decoding import Decoding
from llmkit.errors import UsageError
from llmkit.rows.fields import SourceFields
from llmkit.tasks.translate import Translating, TranslationOptions
from llmkit.translation.families import Direction, Family, family
from llmkit.translation.languages import Language, detect

#: New tokens that a piece may have where nothing else limits it.
_MOST_NEW_TOKENS = 1024


@dataclass(frozen=True)
class Route:
    """The models. pivot: the language between, from which `second` translates; None translates in one step with `first`."""

    first: Engine
    pivot: Language | None
    second: Engine


@dataclass(frozen=True)
class RouteSettings:
    """From where to where, and how. source: None for the model's own, or with `detect` the language that the text is in.

    num_beams: None for 4 with an encoder-decoder, 1 otherwise, and at least as many as translations are wanted.
    """

    source: Language | None = None
    target: Language | None = None
    detect: bool = False
    num_beams: int | None = None
    length_penalty: float = 1.0
    max_new_tokens: int | None = None
    options: TranslationOptions = field(default_factory=TranslationOptions)
    batch_size: int | None = None
    batch_tokens: int = 16_384

    def __post_init__(self) -> None:
        numbers = {"n_best": self.options.best, "num_beams": self.num_beams, "max_new_tokens": self.max_new_tokens}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise UsageError(f"`{name}` {value}: it must be 1 or more")
        if self.num_beams is not None and self.options.best > self.num_beams:
            raise UsageError(
                f"`n_best` {self.options.best}: {self.num_beams} beams give at most {self.num_beams} translations", hint="raise `num_beams`"
            )


def translating(
    route: Route,
    settings: RouteSettings,
    *,
    sample: str,
    text_field: str | None,
    file_name: str,
    notice: Callable[[str], None] = lambda _: None,
) -> Translating:
    """The task that translates rows. sample: text from which the source language is detected; notice: called with a line that names it.

    Raises UsageError for languages that a model does not know, InputError for a sample without letters.
    """
    source = settings.source
    if settings.detect:
        known = [each for each, _ in family(route.first.facts()).sources]
        source = detect(sample, known)
        notice(f"the {'model reads' if len(known) == 1 else 'text is'} {source.name} ({source.tag})")
    if route.pivot is None:
        return _step(route.first, _direction(route.first, source, settings.target), settings, text_field, file_name)
    first = _direction(route.first, source, route.pivot)
    then = _direction(route.second, route.pivot, settings.target)
    step = replace(settings, options=replace(settings.options, glossary=None))
    onward = _step(route.second, then, step, text_field, file_name, tells_languages=False)
    return _step(route.first, first, settings, text_field, file_name, onward)


def _direction(engine: Engine, source: Language | None, target: Language | None) -> Direction:
    known: Family = family(engine.facts())
    return known.direction(source, target)


def _step(
    engine: Engine,
    direction: Direction,
    settings: RouteSettings,
    text_field: str | None,
    file_name: str,
    onward: Translating | None = None,
    *,
    tells_languages: bool = True,
) -> Translating:
    beams = settings.num_beams or max(4 if engine.encoder_decoder else 1, settings.options.best)
    limit = settings.max_new_tokens or min(engine.context or _MOST_NEW_TOKENS, _MOST_NEW_TOKENS)
    return Translating(
        engine,
        Decoding(num_beams=beams, length_penalty=settings.length_penalty, max_new_tokens=limit),
        direction,
        SourceFields(text_field),
        settings.options,
        file_name,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        onward=onward,
        tells_languages=tells_languages,
    )
