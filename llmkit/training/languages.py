"""How a row with a source and a target becomes what `llmkit translate` would ask the model: the same families, the same prompt.

Knows directions; not tensors.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError, UsageError
from llmkit.rows.samples import Sample
from llmkit.training.settings import LanguageSettings
from llmkit.translation.families import Direction, Family, family
from llmkit.translation.languages import language

if TYPE_CHECKING:
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.torch.loading import Prepared


_ROWS = """a row names its own in 'source_lang' and 'target_lang', or as {"translation": {"en": ..., "fr": ...}}"""


class Directions:
    """The direction of each row: from its own languages, else those of the settings, else the only one that the model knows.

    silent: whether a row had no direction, and was trained as it is. first: source and target of the first row that had one, as they were
    named, else by their tags; None for a source that is not known.
    """

    def __init__(self, known: Family | None, settings: LanguageSettings) -> None:
        self.known, self.settings, self.silent = known, settings, False
        self.first: tuple[str | None, str | None] | None = None
        self._made: dict[tuple[str | None, str | None], Direction | None] = {}

    def of(self, sample: Sample) -> Direction | None:
        """None for a row that is trained as it is.

        Raises InputError for a language that is missing, UsageError for one that the model does not know.
        """
        if self.known is None or (sample.format != "source and target" and not self.by_tokens):
            return None
        own = sample.languages or (None, None)
        source, target = own[0] or self.settings.source, own[1] or self.settings.target
        if (source, target) not in self._made:
            self._made[source, target] = self._direction(self.known, source, target)
        direction = self._made[source, target]
        self.silent = self.silent or direction is None
        if self.first is None and direction is not None:
            known = None if direction.source is None else direction.source.tag
            self.first = (source or known, target or direction.target.tag)
        return direction

    def check(self) -> None:
        """Raises UsageError for languages of the settings that the model does not know, whatever the rows name."""
        source, target = self.settings.source, self.settings.target
        if self.known is not None and (source is not None or target is not None):
            with suppress(InputError):
                self._direction(self.known, source, target)

    @property
    def by_tokens(self) -> bool:
        """Whether the model can't write without being told a language by a token."""
        return self.known is not None and self.known.name in ("NLLB", "M2M100", "mBART-50", "mBART-25")

    def _direction(self, known: Family, source: str | None, target: str | None) -> Direction | None:
        named = (None if source is None else language(source), None if target is None else language(target))
        try:
            ends = known.ends(*named)
        except UsageError as exc:
            if source is None and target is None and not self.by_tokens:
                return None  # no language is named anywhere: rows of another task
            raise InputError(exc.message, hint=f"`from` and `to` name those of all rows; {_ROWS}") from exc
        try:
            return known.between(*ends)
        except UsageError as exc:
            raise UsageError(exc.message, hint=f"{exc.hint}; {_ROWS}" if exc.hint else _ROWS) from exc


def directions(prepared: Prepared, chat: ChatSettings, settings: LanguageSettings) -> Directions:
    """The directions that a run's rows may have, by the files of its model, which is not yet in memory.

    Raises InputError where languages are named and the family of an encoder-decoder is not known, UsageError where the model does not know
    those of the settings.
    """
    from llmkit.engines.torch.loading import model_facts

    try:
        known = family(model_facts(prepared.location, prepared.checkpoint, prepared.tokenizer, chat))
    except InputError:
        if settings.source is not None or settings.target is not None:
            raise
        return Directions(None, settings)  # an encoder-decoder of another task
    made = Directions(known, settings)
    made.check()
    return made


def decoder_begin(prepared: Prepared) -> tuple[int, ...]:
    """What the decoder of an encoder-decoder begins with when it answers: its start, and the token that is forced behind it, if any.

    By the files of the model, which is not yet in memory; a value of null is none. Raises ModelError for a damaged file.
    """
    from llmkit.models.generation_defaults import FILE
    from llmkit.models.small_files import read_object

    config = prepared.checkpoint.config
    folder = prepared.location.folder
    own = read_object(folder / FILE) if (folder / FILE).exists() else config
    asked = [
        *(settings.get("decoder_start_token_id") for settings in (own, config)),
        prepared.tokenizer.pad_token_id,
        prepared.tokenizer.eos_token_id,
        0,
    ]
    start = next(token for token in asked if isinstance(token, int))
    forced = own.get("forced_bos_token_id")
    return (start, forced) if isinstance(forced, int) else (start,)


def token_id(tokenizer: Any, token: str) -> int:
    """The id of a language's token, such as 'fra_Latn'."""
    return int(tokenizer.convert_tokens_to_ids(token))
