"""`llmkit gather`: join the shards of a run into the file that one process would have written.

llmkit generate -i prompts.jsonl -o answers.jsonl -m gpt2 --shard 1/2
llmkit generate -i prompts.jsonl -o answers.jsonl -m gpt2 --shard 2/2
llmkit gather answers.jsonl
"""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit.cli import options as opt
from llmkit.cli.command import add
from llmkit.cli.help import Page
from llmkit.errors import counted

app = typer.Typer(add_completion=False)


_PAGE = Page(("llmkit gather answers.jsonl", "llmkit gather answers.csv --overwrite"), guide="scale")


@add(app, "gather", help="Join the shards of a run into the output of one process.", page=_PAGE)
def gather(
    *, output: Annotated[str, typer.Argument(metavar="OUT", help="The --output of the shards.")], overwrite: opt.Overwrite = False,
    display: opt.Quiet,
) -> int:  # fmt: skip
    """Joins the shards beside OUT."""
    from llmkit.jobs.shards import gather as join

    tally, names = join(output, overwrite=overwrite)
    out = display.console
    out.notice(f"{output}: {counted(tally.rows, 'row')} of {counted(len(names), 'shard')}, which can be removed now")
    if tally.failed:
        out.warn(f"{tally.failed:,} of {counted(tally.rows, 'row')} failed; the first: {tally.first_error}")
    return tally.exit_code
