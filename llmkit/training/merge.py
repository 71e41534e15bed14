"""An adapter and its base become one model, and are shown to answer alike.

The sum is made in float32 whatever the weights are stored in, and the merged model is held against base and adapter on
sample prompts before anything gets its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.engines.torch.loading import LoadedModel
from llmkit.errors import GateError, ModelError, OutputError
from llmkit.files import acquire, sync_folder

#: Prompts on which the two are compared where none are given.
PROMPTS = ("Once upon a time", "The capital of France is", "Thank you very much.", "def main():")
_NEW_TOKENS = 32
#: Largest difference of a score, as a share of the largest score: rounding in float32; for less precise weights only reported.
_BOUND = 1e-3


@dataclass(frozen=True)
class Comparison:
    """What the two models made of one prompt. difference: the largest of any score; text: greedy answers."""

    prompt: str
    difference: float
    scale: float
    before: str
    after: str

    @property
    def same_text(self) -> bool:
        return self.before == self.after


def merge(loaded: LoadedModel, dtype: str, prompts: Sequence[str]) -> tuple[Any, list[Comparison]]:
    """The merged model in `dtype`, and how it compares on the prompts. `loaded`: in float32 with its adapter on.

    Raises ModelError when the weights become NaN, GateError when float32 weights do not answer alike.
    """
    import torch

    before = [_answer(loaded.model, loaded, prompt) for prompt in prompts]
    try:
        merged = loaded.model.merge_and_unload(safe_merge=True)
    except ValueError as exc:
        raise ModelError(f"the adapter can't be merged: {exc}", hint="are its weights damaged?") from exc
    merged.to(getattr(torch, dtype)).eval()
    found = []
    for prompt, (scores, text) in zip(prompts, before, strict=True):
        own, again = _answer(merged, loaded, prompt)
        found.append(Comparison(prompt, float((own - scores).abs().max()), float(scores.abs().max()), text, again))
    worst = max(found, key=lambda c: c.difference / max(c.scale, 1.0))
    if dtype == "float32" and worst.difference > _BOUND * max(worst.scale, 1.0):
        raise GateError(f"the merged model does not answer as the adapter does: '{worst.prompt}' differs by {worst.difference:.3g}")
    return merged, found


class Target:
    """The folder for a merged model: written beside under another name, and renamed when whole."""

    def __init__(self, name: str, *, overwrite: bool) -> None:
        self.name, self.path = name, Path(os.path.realpath(name))
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{name} is a file; a model is a folder", hint="name a folder")
        if self.path.exists() and any(self.path.iterdir()) and not overwrite:
            raise OutputError(f"{name} exists and is not empty", hint="--overwrite replaces it")
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / "config.json").exists():
            raise OutputError(f"{name} is not empty and holds no model, so it is not replaced", hint="name another folder")
        if not self.path.parent.is_dir():
            raise OutputError(f"{name}: there is no folder {self.path.parent}", hint=f"mkdir -p {self.path.parent}")
        self._lock = acquire(self.path, self.name)
        self.part = self.path.with_name(f"{self.path.name}.part")
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir()

    def commit(self) -> None:
        """Gives the folder its name, in the place of one that was there."""
        mode = self.part.stat().st_mode & 0o666
        for path in self.part.iterdir():
            path.chmod(mode)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self.part, self.path)
        sync_folder(self.path.parent)

    def release(self) -> None:
        shutil.rmtree(self.part, ignore_errors=True)
        self._lock.release()


def _answer(model: Any, loaded: LoadedModel, prompt: str) -> tuple[Any, str]:
    """Scores of the tokens after each of the prompt's, float32 [tokens, vocabulary], and the greedy answer."""
    import torch

    tokenizer, encoder_decoder = loaded.tokenizer, loaded.checkpoint.is_encoder_decoder
    ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=loaded.device.name)
    with torch.inference_mode():
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=_NEW_TOKENS
        )
        more = {"decoder_input_ids": written[:, :1]} if encoder_decoder else {}
        scores = model(input_ids=ids, **more).logits[0].float()
    new = written[0] if encoder_decoder else written[0][ids.shape[1] :]
    return scores, tokenizer.decode(new, skip_special_tokens=True)
