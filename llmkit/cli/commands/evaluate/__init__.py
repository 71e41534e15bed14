"""`llmkit evaluate`: measure a model or saved outputs, each number with its signature, and gates for CI.

llmkit evaluate perplexity -m gpt2 -i book.txt --fail-if "perplexity > 30"
llmkit evaluate bleu -p hypotheses.txt -r references.txt
llmkit evaluate score --metrics chrf,exact_match -i outputs.jsonl --baseline yesterday.json
llmkit evaluate choice -m gpt2 -i questions.jsonl
llmkit evaluate compare yesterday.json today.json
"""

from __future__ import annotations

import sys

import typer

from llmkit.cli.commands.evaluate import choice, code, compare, perplexity, text

app = typer.Typer(add_completion=False, help="Measure a model, or saved outputs.")


@app.callback(invoke_without_command=True)
def _group(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        sys.stderr.write(ctx.get_help() + "\n")  # empty where rich has drawn it already
        raise typer.Exit(2)


for module in (perplexity, text, choice, code, compare):
    module.register(app)
