"""Answers to fixed prompts while a model is trained: what its figures don't show.

They are given by the engine of `llmkit generate`, greedily, so two evaluations differ by the training alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmkit.engines.base import Request
    from llmkit.engines.decoding import Decoding
    from llmkit.training.eval_prompts import EvalPrompt
    from llmkit.training.run import Ready


def answering(ready: Ready) -> Callable[[], list[dict[str, str]]] | None:
    """What answers the run's prompts with the model as it is then: [{"prompt": ..., "text": ...}]. None without prompts.

    The model's mode and the random state are left as they were.
    """
    prompts = ready.plan.prompts
    if prompts is None:
        return None

    def answer() -> list[dict[str, str]]:
        import torch

        model = ready.model
        was_training, cached = model.training, model.config.use_cache
        model.eval()
        model.config.use_cache = True
        cuda = [model.device] if model.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=cuda):
                return [{"prompt": asked.shown, "text": _text(ready, asked, prompts.max_new_tokens)} for asked in prompts.asked]
        finally:
            model.train(was_training)
            model.config.use_cache = cached

    return answer


def check_prompts(ready: Ready) -> None:
    """Raises InputError or UsageError for a prompt of the run that the model can't be asked: too long, or without the template it needs."""
    for asked in ready.plan.prompts.asked if ready.plan.prompts is not None else ():
        _request(ready, asked, 1)


def _text(ready: Ready, asked: EvalPrompt, max_new_tokens: int) -> str:
    engine, request, decoding = _request(ready, asked, max_new_tokens)
    completion = engine.generate([request], decoding)[0][0]
    return str(completion.text).strip()


def _request(ready: Ready, asked: EvalPrompt, max_new_tokens: int) -> tuple[Any, Request, Decoding]:
    """The engine, and what it is asked."""
    from llmkit.engines.decoding import Decoding
    from llmkit.engines.torch.engine import TorchEngine

    # a layout for this processor would be made anew for every evaluation
    engine: Any = TorchEngine(replace(ready.loaded, model=ready.model), chat=ready.plan.encoder.chat, lay_out=False)
    decoding = Decoding(max_new_tokens=max_new_tokens, first_token=asked.first_token, start_token=asked.start_token, stop=asked.stop)
    return engine, engine.make_request(asked.prompt, decoding), decoding
