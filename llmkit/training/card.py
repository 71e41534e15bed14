"""The model card of a trained or merged model: what it is, its data, its settings, what they improved, and the command that asks it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from llmkit.errors import counted
from llmkit.training.asking import Asking, asking
from llmkit.version import __version__

if TYPE_CHECKING:
    from llmkit.training.results import Improvement
    from llmkit.training.run import Ready, RunPlan


def card(ready: Ready, record: dict[str, Any], improvement: Improvement | None, *, plot: bool) -> str:
    """The card as Markdown with the front matter that the hub reads."""
    plan, result = ready.plan, record["result"]
    base = plan.prepared.location.reference
    what = "All weights" if plan.lora is None else "A LoRA adapter"
    lines = [
        "---",
        f"base_model: {_yaml(base)}",
        f"library_name: {'transformers' if plan.lora is None else 'peft'}",
        "tags: [llmkit" + ("" if plan.lora is None else ", lora") + "]",
        "---",
        "",
        f"# {what} on {_inline(base)}",
        "",
        f"{what} trained by `llmkit finetune` {__version__}: {ready.trained:,} of {ready.parameters:,} parameters, "
        f"{counted(result['steps'], 'step')}, {counted(result['trained_tokens'], 'trained token')} in {result['seconds']:.0f} s. "
        f"Base weights: SHA-256 `{plan.prepared.checkpoint.sha256[:16]}`." + _begun_from(plan),
        "",
        *_use(asking(plan), [*(["-m", base, "--adapter"] if plan.lora is not None else ["-m"]), result["output"]]),
        "## Data",
        "",
        f"{_inline(result['input'])}: {counted(result['rows'], 'row')} of {result['format']}, SHA-256 `{plan.train_sha256[:16]}`."
        + (
            f" Validation: {counted(result['valid_rows'], 'row')} from {_inline(result['valid'])}."
            if result["valid_rows"]
            else " No validation rows."
        ),
        "",
        "## Measured",
        "",
        *_measured(improvement),
        *_answers(result.get("answers")),
        *(["![loss over steps](loss.png)", ""] if plot else []),
        "## Settings",
        "",
        "| setting | value |",
        "|---|---|",
        *(
            f"| {name} | {_inline(str(value))} |"
            for name, value in record["identity"].items()
            if "." in name and not name.startswith("model.")
        ),
        "",
        "`run.json` is the complete record; `llmkit rerun run.json` trains it again.",
        "",
    ]
    return "\n".join(lines)


def _begun_from(plan: RunPlan) -> str:
    """A sentence on the adapter whose training was continued; nothing for a new one."""
    before = plan.prepared.adapter
    return "" if before is None else f" Training continued from the adapter {_inline(before.reference)}, SHA-256 `{before.sha256[:16]}`."


def merged_card(record: dict[str, Any], ask: Asking, *, folder: str) -> str:
    """The card of a merged model. record: as in merge.json; ask: of the adapter, see `asking`."""
    lines = [
        "---",
        f"base_model: {_yaml(record['base'])}",
        "library_name: transformers",
        "tags: [llmkit, merged]",
        "---",
        "",
        f"# {_inline(record['base'])} with an adapter merged in",
        "",
        f"Merged by `llmkit merge` {__version__} in {record['dtype']} from the adapter {_inline(record['adapter'])}, SHA-256 "
        f"`{record['adapter_sha256'][:16]}`. Base weights: SHA-256 `{record['base_sha256'][:16]}`.",
        "",
        *_use(ask, ["-m", folder]),
        "## Compared with base and adapter",
        "",
        "| prompt | largest difference of a score | same greedy text |",
        "|---|---:|---|",
        *(
            f"| {_inline(c['prompt'])} | {c['difference']:.2g} | {'yes' if c['same_text'] else 'no'} |"
            for c in record["comparisons"]
        ),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _use(ask: Asking, model: list[str]) -> list[str]:
    command = shlex.join(["llmkit", ask.command, *model, *ask.options])
    row = json.dumps(dict.fromkeys(ask.fields, "..."), ensure_ascii=False)
    line = f"echo {shlex.quote(row)} | {command} -i -" if ask.fields else f'{command} "..."'
    return ["```sh", line, "```", ""]


def _measured(improvement: Improvement | None) -> list[str]:
    if improvement is None:
        return ["Nothing: there were no validation rows.", ""]
    lines = ["On the validation rows, by the scorer of `llmkit evaluate perplexity`, with 95% intervals over rows:", ""]
    lines += ["| figure | before | after |", "|---|---:|---:|"]
    for place, of_set in (("", improvement), *((f" on {_inline(name)}", of_set) for name, of_set in improvement.sets.items())):
        for name, before in of_set.before.items():
            lines.append(f"| {name.replace('_', ' ')}{place} | {_figure(before)} | {_figure(of_set.after[name])} |")
    signatures = "; ".join(f"`{s.signature}`" for s in improvement.after.values())
    return [*lines, "", f"Signatures: {signatures}.", ""]


def _answers(answers: list[dict[str, str]] | None) -> list[str]:
    """A table of the answers to the run's prompts."""
    if not answers:
        return []
    lines = ["## Answers", "", "Greedy answers to fixed prompts:", "", "| prompt | before | after |", "|---|---|---|"]
    lines += [f"| {_inline(a['prompt'])} | {_inline(a['before'])} | {_inline(a['after'])} |" for a in answers]
    return [*lines, ""]


def _figure(score: Any) -> str:
    interval = f" [{score.interval[0]:.3f}, {score.interval[1]:.3f}]" if score.interval else ""
    return f"{score.value:.3f}{interval}"


def _inline(text: str) -> str:
    """A name inside a line of Markdown: no line end, no markup."""
    clean = " ".join(text.split()).replace("`", "'").replace("|", "/")
    return f"`{clean}`"


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
