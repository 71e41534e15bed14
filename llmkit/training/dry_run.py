"""What a run would train, on what data, and what it would take: looked at before a night is spent on it."""

from __future__ import annotations

from typing import Any

from llmkit.errors import counted
from llmkit.rows.samples import CheckedRows
from llmkit.training.examples import marked
from llmkit.training.run import Ready
from llmkit.training.timing import Timing

#: Characters of the first example that are shown.
_SHOWN = 1500


def facts(ready: Ready, checked: CheckedRows, file_name: str, timing: Timing) -> dict[str, Any]:
    """The dry run as an object: counts, sizes in bytes (`..._bytes`) and times in seconds (`seconds...`)."""
    plan, train = ready.plan, ready.plan.train
    memory = ready.memory
    tokenizer = ready.loaded.tokenizer

    def decode(tokens: list[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    first = train[0]
    shown = "\n".join(marked(part, decode) for part in first.parts)
    if first.encoder_tokens is not None:
        shown = f"{decode(list(first.encoder_tokens))} → {shown}"
    return {
        "source": file_name,
        "rows": checked.rows,
        "formats": checked.formats,
        "unused_columns": checked.unused,
        "bad": [exc.message for exc in checked.bad],
        "examples": len(train),
        "valid_examples": len(plan.valid),
        "truncated": train.truncated,
        "longest": train.longest,
        "max_length": plan.encoder.max_length,
        "without_trained_token": train.empty,
        "tokens": train.tokens,
        "trained_tokens": train.trained,
        "first": shown[:_SHOWN] + ("..." if len(shown) > _SHOWN else ""),
        "model": plan.prepared.location.reference,
        "device": ready.loaded.device.name,
        "dtype": ready.loaded.device.dtype,
        "packed": ready.packed,
        "trained_parameters": ready.trained,
        "parameters": ready.parameters,
        "frozen_experts": 0 if ready.targets is None else ready.targets.frozen_experts,
        "rows_a_step": plan.optimization.rows_a_step(plan.processes.count),
        "steps": plan.steps,
        "memory_bytes": memory.needs,
        "free_bytes": memory.free,
        "seconds_a_step": timing.step,
        "seconds_an_evaluation": timing.evaluation,
        "seconds": timing.of_run(plan),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The object of `facts` as lines for people."""
    formats = ", ".join(f"{count:,} of {name}" for name, count in report["formats"].items())
    share = report["trained_tokens"] / max(report["tokens"], 1)
    out = [f"{report['source']}: {counted(report['rows'], 'row')}, {formats}"]
    if unused := report["unused_columns"]:
        out.append(f"  columns not used: {', '.join(unused)}")
    out += [f"  not usable: {message}" for message in report["bad"]]
    out += [
        f"examples:    {report['examples']:,} to train on, {report['valid_examples']:,} to validate",
        f"tokens:      {report['tokens']:,}, {report['trained_tokens']:,} of them trained ({share:.0%})",
        f"longest:     {counted(report['longest'], 'token')}; {counted(report['truncated'], 'row')} cut to {report['max_length'] or 0:,}",
    ]
    if empty := report["without_trained_token"]:
        listed = ", ".join(str(line) for line in empty[:5])
        out.append(f"skipped:     {counted(len(empty), 'row')} without a trained token (line {listed}{', ...' if len(empty) > 5 else ''})")
    hours, minutes = divmod(report["seconds"] / 60, 60)
    packed = "several rows packed into one" if report["packed"] else "rows padded, those of like length together"
    evaluation = f", {report['seconds_an_evaluation']:.2f} s an evaluation" if report["valid_examples"] else ""
    gib = 1 << 30
    out += [
        f"model:       {report['model']} on {report['device']}, {report['dtype']}; {packed}",
        f"trained:     {report['trained_parameters']:,} of {report['parameters']:,} parameters",
        f"steps:       {report['steps']:,} of {counted(report['rows_a_step'], 'row')}",
        f"memory:      about {report['memory_bytes'] / gib:.1f} GiB, {report['free_bytes'] / gib:.1f} GiB free",
        f"time:        {report['seconds_a_step']:.2f} s a step{evaluation}, about {hours:.0f} h {minutes:.0f} min",
        "first example, what is trained between « and »:",
        report["first"],
    ]
    return out


def summary(ready: Ready, checked: CheckedRows) -> list[str]:
    """The plan of a run that begins, in two lines."""
    plan = ready.plan
    bad = f", {len(checked.bad):,} skipped as not usable" if checked.bad else ""
    return [
        f"{counted(len(plan.train), 'example')} of {plan.format}{bad}, "
        f"{plan.train.trained:,} of {counted(plan.train.tokens, 'token')} trained; {len(plan.valid):,} to validate",
        f"{ready.trained:,} of {ready.parameters:,} parameters, "
        f"{counted(plan.steps, 'step')} of {counted(plan.optimization.rows_a_step(plan.processes.count), 'row')}; {ready.memory}",
    ]
