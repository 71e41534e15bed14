"""How a text is translated: by one model, or through a third language by one or two models.

Knows engines, families of models and languages; not how rows are read or answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from llmkit.engines.base import Engine
from llmkit.engines.decoding import Decoding
from llmkit.engines.registry import Model
from llmkit.errors import UsageError
from llmkit.models.reference import reads_all
from llmkit.rows import Rows
from llmkit.rows.fields import SourceFields
from llmkit.tasks.translate import Translating, TranslationOptions
from llmkit.translation.families import Direction, Family, family
from llmkit.translation.languages import Language, detect

#: New tokens that a piece may have where nothing else limits it.
_MOST_NEW_TOKENS = 1024
#: Rows from which the language of a file is detected.
_SAMPLE = 50


@dataclass(frozen=True)
class Pivot:
    """The language between the two. model: the reference of the second step's model, None for that of the first."""

    language: Language
    model: str | None = None


@dataclass(frozen=True)
class RouteSettings:
    """From where to where, and how. source: None for the model's own, or with `detect` the language that the text is in.

    pivot: None translates in one step. num_beams: None for 4 with an encoder-decoder, 1 otherwise, and at least as many as
    translations are wanted.
    """

    source: Language | None = None
    target: Language | None = None
    detect: bool = False
    pivot: Pivot | None = None
    options: TranslationOptions = field(default_factory=TranslationOptions)
    num_beams: int | None = None
    length_penalty: float = 1.0
    max_new_tokens: int | None = None
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

    def decoding(self, *, encoder_decoder: bool) -> Decoding:
        """How translations are decoded by a model of one kind or the other. What a causal model translates ends with the line."""
        best = self.options.best
        return Decoding(
            num_beams=self.num_beams or max(4 if encoder_decoder else 1, best),
            num_samples=best,
            length_penalty=self.length_penalty,
            logprobs=self.options.scored,
            stop=() if encoder_decoder else ("\n",),
        )


def models_of(model: Model, settings: RouteSettings) -> list[Model]:
    """The models that translate: `model`, decoded as the settings say, and that of a pivot's second step where it has its own."""
    call, pivot = model.settings, settings.pivot
    first = replace(model, decoding=settings.decoding(encoder_decoder=reads_all(call.reference)))
    if pivot is None or pivot.model is None:
        return [first]
    return [first, replace(first, settings=replace(call, reference=pivot.model, adapter=None))]


def sample_of(rows: Rows, text_field: str | None) -> str:
    """The text of the first rows, which stay in the stream."""
    fields = SourceFields(text_field)

    def texts() -> Iterator[str]:
        for row in rows.peek(_SAMPLE):
            if row.error is None and (text := fields.prompt(row, rows.name).text):
                yield text

    return "\n".join(texts())


def translating(
    engines: Sequence[Engine],
    settings: RouteSettings,
    *,
    sample: str = "",
    text_field: str | None = None,
    file_name: str = "the text",
    notice: Callable[[str], None] = lambda _: None,
) -> Translating:
    """The task that translates rows. engines: of `models_of`. sample: text from which the source language is detected.

    notice: called with a line that names it. Raises UsageError for languages that a model does not know, InputError for a sample
    without letters.
    """
    first, source = engines[0], settings.source
    if settings.detect:
        known = [each for each, _ in family(first.facts()).sources]
        source = detect(sample, known)
        notice(f"the {'model reads' if len(known) == 1 else 'text is'} {source.name} ({source.tag})")
    if settings.pivot is None:
        return _step(first, _direction(first, source, settings.target), settings, text_field, file_name)
    second, between = engines[-1], settings.pivot.language
    direction = _direction(first, source, between)
    then = _direction(second, between, settings.target)
    step = replace(settings, options=replace(settings.options, glossary=None))
    onward = _step(second, then, step, text_field, file_name, tells_languages=False)
    return _step(first, direction, settings, text_field, file_name, onward)


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
    limit = settings.max_new_tokens or min(engine.context or _MOST_NEW_TOKENS, _MOST_NEW_TOKENS)
    decoding = settings.decoding(encoder_decoder=engine.encoder_decoder)
    return Translating(
        engine,
        replace(decoding, max_new_tokens=limit, stop=direction.stop),
        direction,
        SourceFields(text_field),
        settings.options,
        file_name,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        onward=onward,
        tells_languages=tells_languages,
    )
