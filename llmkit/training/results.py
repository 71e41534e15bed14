"""After the last step: the adapter under its name, what it improved, a plot, a card, the record.

Each part can be done again from the last checkpoint: a run that dies here loses nothing, and the same command does the rest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmkit.engines.torch.loading import tokenizer_beside
from llmkit.files import file_sha256
from llmkit.metrics.accuracy import accuracy
from llmkit.metrics.base import Score, json_number, signature
from llmkit.metrics.perplexity import Likelihood, scores
from llmkit.models import speed
from llmkit.records import peak_memory_bytes, run_record
from llmkit.training.adapter import save_weights
from llmkit.training.asking import asking
from llmkit.training.checkpoints import RunFolder, Saved, unwritable
from llmkit.training.run import Ready, RunPlan
from llmkit.training.validation import likelihoods

#: Of the figures that the scorer knows, those that measure the improvement.
FIGURES = ("token_perplexity", "bits_per_byte")
#: ... and of preferences.
_PREFERRED = "preference_accuracy"


@dataclass(frozen=True)
class Improvement:
    """Figures on the validation rows, before and after. sets: those of each file, where there are several."""

    before: dict[str, Score]
    after: dict[str, Score]
    sets: dict[str, Improvement] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """For the record."""
        out: dict[str, Any] = {"before": _numbers(self.before), "after": _numbers(self.after)}
        return out | ({"sets": {name: of_set.numbers() for name, of_set in self.sets.items()}} if self.sets else {})


def measure(ready: Ready) -> list[list[float]]:
    """The validation rows' likelihoods as the model is now: [log-likelihood in nats, tokens, words, bytes] each.

    Of preferences these are the better answer's, and the log-likelihood of the worse one follows. Raises ModelError for scores that are
    NaN.
    """
    plan = ready.plan
    if not plan.preference:
        documents = likelihoods(ready.model, plan.valid, pad=plan.pad)
        return [[d.log_likelihood, d.tokens, d.words, d.bytes] for d in documents]
    from llmkit.training.preference import log_probs

    pairs = log_probs(ready.model, plan.valid, pad=plan.pad, chosen=range(len(plan.valid)))
    chosen = [example.parts[0] for example in plan.valid]
    return [[pairs[i][0], example.trained, example.words, example.bytes, pairs[i][1]] for i, example in enumerate(chosen)]


def figures(plan: RunPlan, measured: Sequence[Sequence[float]]) -> dict[str, Score]:
    """The figures of `measure`'s numbers, with 95% intervals over rows (see `llmkit.metrics.intervals`)."""
    documents = [Likelihood(value, int(tokens), int(words), int(size)) for value, tokens, words, size, *_ in measured]
    target = "text" if plan.format == "text" or plan.loss.full_loss else "completion"
    protocol = signature(target=target, max_length=plan.encoder.max_length or "none", rows=(plan.valid_sha256 or "")[:8])
    tokenizer = str(plan.identity()["model.tokenizer_sha256"])[:8]
    scored = {s.name: s for s in scores(documents, protocol=protocol, tokenizer=tokenizer) if s.name in FIGURES}
    return {_PREFERRED: _preferred(measured, protocol)} | scored if plan.preference else scored


def _preferred(measured: Sequence[Sequence[float]], protocol: str) -> Score:
    """In how many of 100 pairs the better answer is the likelier one."""
    return accuracy(_PREFERRED, [row[0] > row[4] for row in measured], protocol)


def improved(plan: RunPlan, before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Improvement:
    """What changed between two of `measure`'s results, on all validation rows and on those of each file."""
    sets, first = {}, 0
    for name, count in plan.valid_sets if len(plan.valid_sets) > 1 else ():
        part = slice(first, first + count)
        if count:
            sets[name] = Improvement(figures(plan, before[part]), figures(plan, after[part]))
        first += count
    return Improvement(figures(plan, before), figures(plan, after), sets)


def finish(
    ready: Ready, folder: RunFolder, improvement: Improvement | None, last: Saved, options: dict[str, Any], about: dict[str, Any]
) -> dict[str, Any]:
    """Writes the result beside, gives it its place when it is complete, and returns the record.

    last: the run's newest checkpoint. options: for the record. about: facts of the data. Raises UnavailableError for a full disk,
    OutputError for something else at the name of one of its files.
    """
    from llmkit.training.history import metrics_line

    part = folder.final
    if part.exists():
        shutil.rmtree(part)
    with unwritable(folder.name):
        weights = _write_weights(ready, part)
        (part / "metrics.jsonl").write_text("".join(metrics_line(entry) for entry in last.history), encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        from llmkit.reports.curve import draw_losses

        draw_losses(last.history, part / "loss.png")
    result = _result(ready, folder, improvement, last) | about
    result |= {"input_sha256": ready.plan.train_sha256, "output": folder.name, "output_sha256": weights}
    record = run_record("finetune", options, folder.known.identity, result)
    from llmkit.training.card import card

    with unwritable(folder.name):
        (part / "README.md").write_text(card(ready, record, improvement, plot=(part / "loss.png").exists()), encoding="utf-8")
        mode = (folder.checkpoints / "state.json").stat().st_mode  # by the umask; safetensors' files are the owner's alone
        paths = sorted(p for p in part.rglob("*") if p.is_file())
        for path in paths:
            path.chmod(mode)
        record["result"]["files"] = {str(p.relative_to(part)): file_sha256(p) for p in paths}
        (part / "run.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    folder.publish()
    return record


def _result(ready: Ready, folder: RunFolder, improvement: Improvement | None, last: Saved) -> dict[str, Any]:
    """What was trained and measured. Every figure is of the steps that were trained, the loss of the step that is kept."""
    kept = kept_step(ready.plan, last)
    seconds, tokens = folder.known.seconds, _trained_tokens(ready, last.step)
    losses = [entry["loss"] for entry in last.history if "loss" in entry and entry["step"] <= kept]
    return (
        {
            "rows": len(ready.plan.train),
            "failed": 0,
            "steps": last.step,
            "planned_steps": ready.plan.steps,
            "kept_step": kept,
            "trained_parameters": ready.trained,
            "trained_tokens": tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
            "peak_memory_bytes": peak_memory_bytes(),
            "loss": losses[-1] if losses else None,
            "figures": None if improvement is None else improvement.numbers(),
            "ask": asdict(asking(ready.plan)),
        }
        | _answered(last, kept)
        | _limit(ready, last.step, seconds)
    )


def _answered(last: Saved, kept: int) -> dict[str, Any]:
    """The answers to the run's prompts before the first step and at the kept one; nothing without prompts."""
    answers = {entry["step"]: entry["answers"] for entry in last.history if "answers" in entry and entry["step"] <= kept}
    if not answers:
        return {}
    first, latest = min(answers), max(answers)
    both = zip(answers[first], answers[latest], strict=True)
    return {"answers": [{"prompt": a["prompt"], "before": a["text"], "after": b["text"]} for a, b in both]}


def kept_step(plan: RunPlan, last: Saved) -> int:
    """The step whose weights are the result: the best by validation where there is one, else the last."""
    from llmkit.training.history import best_step

    best = best_step(last.history) if plan.checkpoints.result == "best" else None
    return last.step if best is None else best


def _write_weights(ready: Ready, part: Path) -> str:
    """The adapter's (or model's) files with the chat template of the training and its tokenizer; the weights' SHA-256."""
    plan = ready.plan
    ready.model.config.use_cache = True
    save_weights(ready.model, part, embeddings=plan.embeddings)
    template = plan.encoder.template if plan.format != "text" else None
    if template is None and plan.prepared.adapter is not None:
        template = plan.prepared.adapter.chat_template()
    # transformers finds a template only through the tokenizer beside it
    if plan.lora is None or template is not None or tokenizer_beside(plan.prepared):
        ready.loaded.tokenizer.save_pretrained(part)
    if template is not None:
        (part / "chat_template.jinja").write_text(template, encoding="utf-8")
    ready.model.config.use_cache = False
    digest = hashlib.sha256()
    for path in sorted(part.glob("*.safetensors")):
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def _trained_tokens(ready: Ready, steps: int) -> int:
    """Trained tokens of the first `steps` steps."""
    return _over_steps(ready, steps, array("q", (example.trained for example in ready.plan.train)))


def _over_steps(ready: Ready, steps: int, counts: Sequence[int]) -> int:
    """The sum of the examples' counts over the first `steps` steps."""
    stream = ready.stream(steps)
    return sum(counts[i] for step in range(steps) for i in stream.step(step))


def _limit(ready: Ready, steps: int, seconds: float) -> dict[str, Any]:
    """How near the training came to the machine's matrix products, where they were measured (see `llmkit.models.speed`).

    Of a model with one half: how many tokens meet the encoder of another, its examples do not tell.
    """
    loaded = ready.loaded
    known, cost = speed.remembered(loaded.device.kind), speed.cost(loaded.checkpoint, dtype=loaded.device.dtype, quantize=loaded.quantize)
    rate = known.rates.get(cost.dtype) if known is not None and cost is not None and cost.dtype is not None else None
    if rate is None or cost is None or cost.source or not seconds:
        return {}
    read = array("q", (sum(len(part.tokens) for part in example.parts) for example in ready.plan.train))
    operations = speed.training_operations(round(cost.position / 2), ready.trained, _over_steps(ready, steps, read))
    share = round(operations / rate / seconds, 3)
    return {"limit": {"share": share, "by": "arithmetic", "model_seconds": round(seconds, 3), "operations_per_second": round(rate)}}


def _numbers(scores_by_name: dict[str, Score]) -> dict[str, Any]:
    return {
        name: {"value": json_number(s.value), "interval": s.interval and [json_number(x) for x in s.interval], "signature": s.signature}
        for name, s in scores_by_name.items()
    }


def improvement_line(improvement: Improvement) -> str:
    """One line: validation scores before and after."""
    parts = []
    for name in (_PREFERRED, *FIGURES):
        if name in improvement.before and name in improvement.after:
            before, after = improvement.before[name], improvement.after[name]
            interval = f" [{after.interval[0]:.3f}, {after.interval[1]:.3f}]" if after.interval else ""
            parts.append(f"{name.replace('_', ' ')} {before.value:.3f} → {after.value:.3f}{interval}")
    return "on the validation rows: " + ", ".join(parts)
