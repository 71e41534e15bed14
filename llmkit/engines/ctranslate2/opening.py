"""Opening a model: the package's own at once, any other from the cache.

Knows settings; not how a form is made (convert.py) or run (model.py). A built-in model is opened without importing what others need.
"""

from __future__ import annotations

from llmkit.engines.base import Notify, notify_nobody
from llmkit.engines.chat import ChatSettings
from llmkit.engines.ctranslate2 import ENGINE
from llmkit.engines.ctranslate2.converted_model import ConvertedModel, packaged
from llmkit.engines.ctranslate2.engine import CTranslate2Engine
from llmkit.errors import EngineLimitError, counted
from llmkit.models.cores import default_threads
from llmkit.models.settings import ModelSettings


def open_engine(
    settings: ModelSettings, *, chat: ChatSettings | None = None, draft: str | None = None, report: Notify = notify_nobody,
    warn: Notify = notify_nobody, notice: Notify = notify_nobody,
) -> CTranslate2Engine:  # fmt: skip
    """Loads a model, which is converted first where it has not been.

    notice: told in a line what takes time now, and what weights in 8 bits cost and gain.
    Raises EngineLimitError for a model that the library does not run as torch does, ModelError, UnavailableError or OutOfMemoryError.
    """
    if draft is not None:
        raise EngineLimitError(f"the engine {ENGINE.name} has no speculation", hint="`engine` torch")
    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    form = _form(settings, report, warn, notice)
    precision = "int8" if settings.quantize == "int8" else dtype
    threads = settings.threads or default_threads()
    alone = " (1 for one text)" if form.files.small and threads > 1 else ""
    report(f"{settings.reference}: CTranslate2; cpu, {precision}, {counted(threads, 'thread')}{alone}")
    engine = CTranslate2Engine(form, dtype=dtype, quantize=settings.quantize, threads=settings.threads, chat=chat)
    for remark in engine.chat.check(form.tokenizer):
        warn(remark)
    return engine


def _form(settings: ModelSettings, report: Notify, warn: Notify, notice: Notify) -> ConvertedModel:
    if settings.reference.startswith("builtin:") and settings.adapter is None:
        return packaged(settings.reference.removeprefix("builtin:"))
    from llmkit.engines.ctranslate2.cached_model import Notices, cached

    return cached(settings, Notices(report, warn, notice))
