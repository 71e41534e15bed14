"""After the last step: the adapter under its name, what was won, a plot, a card, the record.

Each part can be done again from the last checkpoint: a run that dies here loses nothing, and the same command does the rest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.files import sync_folder, write_whole
from llmkit.metrics.base import Score, json_number, signature
from llmkit.metrics.perplexity import Likelihood, scores
from llmkit.models.checkpoint import file_sha256
from llmkit.records import peak_memory_bytes, run_record
from llmkit.training.adapter import save_weights
from llmkit.training.checkpoints import RunFolder, unwritable
from llmkit.training.run import Ready, RunPlan
from llmkit.training.validation import likelihoods

#: Of the figures that the scorer knows, those that say what was won.
FIGURES = ("token_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Improvement:
    """Figures on the validation rows, before and after."""

    before: dict[str, Score]
    after: dict[str, Score]


def measure(ready: Ready) -> list[list[float]]:
    """The validation rows' likelihoods as the model is now: [log-likelihood, tokens, words, bytes] each."""
    found = likelihoods(ready.model, ready.plan.valid, pad=ready.plan.pad)
    return [[d.log_likelihood, d.tokens, d.words, d.bytes] for d in found]


def figures(plan: RunPlan, measured: Sequence[Sequence[float]]) -> dict[str, Score]:
    """The figures of `measure`'s numbers, with intervals by bootstrap over rows."""
    documents = [Likelihood(value, int(tokens), int(words), int(size)) for value, tokens, words, size in measured]
    target = "text" if plan.format == "text" or plan.lesson.full_loss else "completion"
    protocol = signature(target=target, max_length=plan.encoder.max_length or "none", rows=(plan.valid_sha256 or "")[:8])
    tokenizer = str(plan.identity()["model.tokenizer_sha256"])[:8]
    return {s.name: s for s in scores(documents, protocol=protocol, tokenizer=tokenizer) if s.name in FIGURES}


def finish(
    ready: Ready,
    folder: RunFolder,
    won: Improvement | None,
    history: Sequence[dict[str, Any]],
    options: dict[str, Any],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Writes all that belongs to a finished run, the record last; gives the record. about: the data and what it held."""
    with unwritable(folder.name):
        weights = _write_weights(ready, folder)
    if importlib.util.find_spec("matplotlib") is not None:
        from llmkit.reports.curve import draw_losses

        part = folder.path / "loss.part.png"
        draw_losses(history, part)
        os.replace(part, folder.path / "loss.png")
    plan = ready.plan
    seconds = float(folder.state.get("seconds", 0.0))
    tokens = _trained_tokens(ready)
    last = next((entry["loss"] for entry in reversed(history) if "loss" in entry), None)
    result = {
        "rows": len(plan.train),
        "failed": 0,
        "steps": plan.steps,
        "trained_parameters": ready.trained,
        "trained_tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "loss": last,
        "figures": None if won is None else {"before": _numbers(won.before), "after": _numbers(won.after)},
        **about,
        "input_sha256": plan.train_sha256,
        "output": folder.name,
        "output_sha256": weights,
    }
    found = run_record("finetune", options, plan.identity(), result)
    from llmkit.training.card import card

    with unwritable(folder.name):
        write_whole(folder.path / "README.md", card(ready, found, won, plot=(folder.path / "loss.png").exists()))
        write_whole(folder.record_path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    sync_folder(folder.path)
    return found


def _write_weights(ready: Ready, folder: RunFolder) -> str:
    """The adapter's (or model's) files, each under its name when it is whole; the weights' SHA-256."""
    part = folder.checkpoints / "final"
    shutil.rmtree(part, ignore_errors=True)
    ready.model.config.use_cache = True
    save_weights(ready.model, part)
    if ready.plan.lora is None:
        ready.loaded.tokenizer.save_pretrained(part)
    ready.model.config.use_cache = False
    mode = (folder.checkpoints / "state.json").stat().st_mode  # by the umask; safetensors' files are the owner's alone
    digest = hashlib.sha256()
    # the weights last: a folder with them is whole
    for path in sorted(part.iterdir(), key=lambda p: (p.suffix == ".safetensors", p.name)):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        if path.suffix == ".safetensors":
            digest.update(bytes.fromhex(file_sha256(path)))
        path.chmod(mode)
        os.replace(path, folder.path / path.name)
    part.rmdir()
    sync_folder(folder.path)
    return digest.hexdigest()


def _trained_tokens(ready: Ready) -> int:
    """Learnt tokens of all steps."""
    stream = ready.stream(ready.plan.steps)
    trained = array("q", (example.trained for example in ready.plan.train))
    return sum(trained[i] for step in range(ready.plan.steps) for i in stream.step(step))


def _numbers(found: dict[str, Score]) -> dict[str, Any]:
    return {
        name: {"value": json_number(s.value), "interval": s.interval and [json_number(x) for x in s.interval], "signature": s.signature}
        for name, s in found.items()
    }


def improvement_line(won: Improvement) -> str:
    """What was won, in a line."""
    parts = []
    for name in FIGURES:
        if name in won.before and name in won.after:
            before, after = won.before[name], won.after[name]
            interval = f" [{after.interval[0]:.3f}, {after.interval[1]:.3f}]" if after.interval else ""
            parts.append(f"{name.replace('_', ' ')} {before.value:.3f} → {after.value:.3f}{interval}")
    return "on the validation rows: " + ", ".join(parts)
