"""What a run would learn, from what, and what it would take: looked at before a night is spent on it."""

from __future__ import annotations

from typing import Any

from llmkit.rows.samples import CheckedRows
from llmkit.training.examples import marked
from llmkit.training.run import Ready

#: Characters of the first example that are shown.
_SHOWN = 1500


def facts(ready: Ready, judged: CheckedRows, source: str, seconds_a_step: float) -> dict[str, Any]:
    """The preflight as an object. seconds_a_step: as timed."""
    plan, train = ready.plan, ready.plan.train
    memory = plan.memory()
    tokenizer = ready.loaded.tokenizer

    def decode(tokens: list[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    first = train[0]
    shown = marked(first, decode)
    if first.source is not None:
        shown = f"{decode(list(first.source))} → {shown}"
    return {
        "source": source,
        "rows": judged.rows,
        "formats": judged.formats,
        "bad": [exc.message for exc in judged.bad],
        "examples": len(train),
        "valid_examples": len(plan.valid),
        "truncated": train.truncated,
        "longest": train.longest,
        "max_length": plan.encoder.max_length,
        "without_trained_token": train.empty,
        "tokens": train.tokens,
        "trained_tokens": train.trained,
        "first": shown[:_SHOWN] + ("..." if len(shown) > _SHOWN else ""),
        "model": plan.found.location.reference,
        "device": ready.loaded.device.name,
        "dtype": ready.loaded.device.dtype,
        "packed": ready.packed,
        "trained_parameters": ready.trained,
        "parameters": ready.parameters,
        "rows_a_step": plan.course.rows_a_step(plan.processes.count),
        "steps": plan.steps,
        "memory_bytes": memory.needs,
        "free_bytes": memory.free,
        "seconds_a_step": seconds_a_step,
        "seconds": seconds_a_step * plan.steps,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The object for people."""
    formats = ", ".join(f"{count:,} of {name}" for name, count in found["formats"].items())
    share = found["trained_tokens"] / max(found["tokens"], 1)
    out = [f"{found['source']}: {found['rows']:,} rows, {formats}"]
    out += [f"  not usable: {message}" for message in found["bad"]]
    out += [
        f"examples:    {found['examples']:,} to learn, {found['valid_examples']:,} to validate",
        f"tokens:      {found['tokens']:,}, {found['trained_tokens']:,} of them learnt ({share:.0%})",
        f"longest:     {found['longest']:,} tokens; {found['truncated']:,} rows cut to {found['max_length'] or 0:,}",
    ]
    if empty := found["without_trained_token"]:
        listed = ", ".join(str(line) for line in empty[:5])
        out.append(f"left out:    {len(empty):,} rows without a token to learn (line {listed}{', ...' if len(empty) > 5 else ''})")
    hours, minutes = divmod(found["seconds"] / 60, 60)
    packed = "several rows packed into one" if found["packed"] else "rows padded, those of like length together"
    gib = 1 << 30
    out += [
        f"model:       {found['model']} on {found['device']}, {found['dtype']}; {packed}",
        f"trained:     {found['trained_parameters']:,} of {found['parameters']:,} parameters",
        f"steps:       {found['steps']:,} of {found['rows_a_step']:,} rows",
        f"memory:      about {found['memory_bytes'] / gib:.1f} GiB, {found['free_bytes'] / gib:.1f} GiB free",
        f"time:        {found['seconds_a_step']:.2f} s a step, about {hours:.0f} h {minutes:.0f} min",
        "first example, what is learnt between « and »:",
        found["first"],
    ]
    return out


def summary(ready: Ready, judged: CheckedRows) -> list[str]:
    """The preflight of a run that begins, in two lines."""
    plan = ready.plan
    bad = f", {len(judged.bad):,} left out as not usable" if judged.bad else ""
    return [
        f"{len(plan.train):,} examples of {plan.format}{bad}, {plan.train.trained:,} of {plan.train.tokens:,} tokens learnt; "
        f"{len(plan.valid):,} to validate",
        f"{ready.trained:,} of {ready.parameters:,} parameters, "
        f"{plan.steps:,} steps of {plan.course.rows_a_step(plan.processes.count):,} rows; {plan.memory()}",
    ]
