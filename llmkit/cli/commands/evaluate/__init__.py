"""`llmkit evaluate`: measure a model or saved outputs, each number with its signature, and gates for CI.

llmkit evaluate perplexity -m gpt2 -i book.txt --fail-if "perplexity > 30"
llmkit evaluate bleu -p hypotheses.txt -r references.txt
llmkit evaluate score --metrics chrf,exact_match -i outputs.jsonl --baseline yesterday.json
llmkit evaluate choice -m gpt2 -i questions.jsonl
llmkit evaluate compare yesterday.json today.json
llmkit evaluate run suite.toml --report suite.xml
"""

from __future__ import annotations

import typer

from llmkit.cli.command import Group, show_help
from llmkit.cli.commands.evaluate import choice, code, compare, perplexity, suite, text
from llmkit.cli.help import Page, shows

app = typer.Typer(cls=Group, add_completion=False, help="Measure a model, or saved outputs.")


_PAGE = Page(
    ("llmkit evaluate perplexity -m gpt2 -i book.txt", "llmkit evaluate score --metrics chrf,exact_match -i outputs.jsonl"),
    guide="evaluate",
)


@app.callback(invoke_without_command=True)
@shows(_PAGE)
def _group(ctx: typer.Context) -> None:
    show_help(ctx)


for module in (perplexity, text, choice, code, compare, suite):
    module.register(app)
