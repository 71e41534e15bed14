"""The model card of a trained adapter: what it is, what it learnt from, how, and what that won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmkit import __version__

if TYPE_CHECKING:
    from llmkit.training.results import Improvement
    from llmkit.training.run import Ready


def card(ready: Ready, record: dict[str, Any], won: Improvement | None, *, plot: bool) -> str:
    """The card as Markdown with the front matter that the hub reads."""
    plan, result = ready.plan, record["result"]
    base = plan.found.location.reference
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
        f"{result['steps']:,} steps, {result['trained_tokens']:,} learnt tokens in {result['seconds']:.0f} s. "
        f"Base weights: SHA-256 `{plan.found.checkpoint.sha256[:16]}`.",
        "",
        *_use(plan.found.checkpoint.is_encoder_decoder, base, adapter=plan.lora is not None, folder=result["output"]),
        "## Data",
        "",
        f"{_inline(result['input'])}: {result['rows']:,} rows of {result['format']}, SHA-256 `{plan.train_sha256[:16]}`."
        + (
            f" Validation: {result['valid_rows']:,} rows from {_inline(result['valid'])}."
            if result["valid_rows"]
            else " No validation rows."
        ),
        "",
        "## Measured",
        "",
        *_measured(won),
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
        "`run.json` holds the whole record; `llmkit rerun run.json` trains it again.",
        "",
    ]
    return "\n".join(lines)


def _use(encoder_decoder: bool, base: str, *, adapter: bool, folder: str) -> list[str]:
    command = "translate" if encoder_decoder else "generate"
    model = f"-m {base} --adapter {folder}" if adapter else f"-m {folder}"
    return ["```sh", f'llmkit {command} {model} "..."', "```", ""]


def _measured(won: Improvement | None) -> list[str]:
    if won is None:
        return ["Nothing: there were no validation rows.", ""]
    lines = ["On the validation rows, by the scorer of `llmkit evaluate perplexity`, 95% intervals by bootstrap over rows:", ""]
    lines += ["| figure | before | after |", "|---|---:|---:|"]
    for name, before in won.before.items():
        lines.append(f"| {name.replace('_', ' ')} | {_figure(before)} | {_figure(won.after[name])} |")
    signatures = "; ".join(f"`{s.signature}`" for s in won.after.values())
    return [*lines, "", f"Signatures: {signatures}.", ""]


def _figure(score: Any) -> str:
    interval = f" [{score.interval[0]:.3f}, {score.interval[1]:.3f}]" if score.interval else ""
    return f"{score.value:.3f}{interval}"


def _inline(text: str) -> str:
    """A name inside a line of Markdown: no line end, no markup."""
    clean = " ".join(text.split()).replace("`", "'").replace("|", "/")
    return f"`{clean}`"


def _yaml(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
