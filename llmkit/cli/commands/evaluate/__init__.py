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

from llmkit.cli.command import Group, add, show_help
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


#: Each command with its function, its line of help, and its page.
_COMMANDS = (
    ("perplexity", perplexity.perplexity, "How well a model predicts texts: perplexity and bits per byte.", perplexity.PAGE, ()),
    ("bleu", text.score, "BLEU by sacrebleu: of saved outputs, or of a model's answers.", text.BLEU_PAGE, text.NOT_BLEU),
    ("score", text.score, "BLEU, chrF, TER, exact match, F1: of saved outputs, or of a model's answers.", text.SCORE_PAGE, ()),
    ("choice", choice.choice, "Multiple choice and classification: is the right answer the most likely?", choice.PAGE, ()),
    ("code", code.code, "Run generated programs and compute pass@k.", code.PAGE, ()),
    ("compare", compare.compare, "Compare results of several runs with the first, on the same rows.", compare.PAGE, ()),
    ("run", suite.run, "Measure the test sets of a suite, with one report.", suite.PAGE, ()),
)
for name, function, line, page, without in _COMMANDS:
    add(app, name, help=line, page=page, without=without)(function)
