"""How a row with a source and a target becomes what `llmkit translate` would ask the model: the same families, the same prompt.

Knows directions; not tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError, UsageError
from llmkit.rows.samples import Sample
from llmkit.training.settings import LanguageSettings
from llmkit.translation.families import Direction, Family, family
from llmkit.translation.languages import language

if TYPE_CHECKING:
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.torch.loading import Prepared


_ROWS = """rows name their languages in 'source_lang' and 'target_lang', or as {"translation": {"en": ..., "fr": ...}}"""


class Directions:
    """The direction of each row: from its own languages, else those of the settings, else the only one that the model knows.

    silent: whether a row had no direction, and was trained as it is.
    """

    def __init__(self, known: Family | None, settings: LanguageSettings) -> None:
        self.known, self.settings, self.silent = known, settings, False
        self._made: dict[tuple[str | None, str | None], Direction | None] = {}

    def of(self, sample: Sample) -> Direction | None:
        """None for a row that is trained as it is. Raises UsageError for a language that is missing or that the model does not know."""
        if self.known is None or (sample.format != "source and target" and not self.by_tokens):
            return None
        source, target = sample.languages or (self.settings.source, self.settings.target)
        if (source, target) not in self._made:
            self._made[source, target] = self._direction(self.known, source, target)
        direction = self._made[source, target]
        self.silent = self.silent or direction is None
        return direction

    @property
    def by_tokens(self) -> bool:
        """Whether the model can't write without being told a language by a token."""
        return self.known is not None and self.known.name in ("NLLB", "M2M100", "mBART-50")

    def _direction(self, known: Family, source: str | None, target: str | None) -> Direction | None:
        try:
            return known.direction(None if source is None else language(source), None if target is None else language(target))
        except UsageError as exc:
            if source is None and target is None and not self.by_tokens:
                return None  # no language is named anywhere: rows of another task
            raise UsageError(exc.message, hint=f"{exc.hint}; {_ROWS}" if target is not None else _ROWS) from exc


def directions(prepared: Prepared, chat: ChatSettings, settings: LanguageSettings) -> Directions:
    """The directions that a run's rows may have, by the files of its model, which is not yet in memory.

    Raises InputError where languages are named and the family of an encoder-decoder is not known.
    """
    from llmkit.engines.torch.loading import model_facts

    try:
        return Directions(family(model_facts(prepared.location, prepared.checkpoint, prepared.tokenizer, chat)), settings)
    except InputError:
        if settings.source is not None or settings.target is not None:
            raise
        return Directions(None, settings)  # an encoder-decoder of another task


def token_id(tokenizer: Any, token: str) -> int:
    """The id of a language's token, such as 'fra_Latn'."""
    return int(tokenizer.convert_tokens_to_ids(token))
