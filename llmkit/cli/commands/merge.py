"""`llmkit merge`: merge an adapter into its base, and compare their answers.

llmkit merge adapters/mine -o models/mine
llmkit merge adapters/mine -m models/base -o models/mine --dtype bfloat16
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add
from llmkit.cli.help import Page
from llmkit.cli.parsing import MODEL, RUN, choice_option, option
from llmkit.cli.parsing import device as device_name
from llmkit.errors import UsageError

if TYPE_CHECKING:
    from llmkit.training.merge import Comparison

app = typer.Typer(add_completion=False)


_PAGE = Page(("llmkit merge adapters/mine -o models/mine", "llmkit merge adapters/mine -o models/mine --dtype bfloat16"), guide="finetune")


@add(app, "merge", help="Merge an adapter into its base, and compare the answers of both.", page=_PAGE)
def merge(
    *,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter: a folder or a hub id.")],
    output: opt.Folder = None,
    overwrite: opt.Overwrite = False,
    model: Annotated[
        str | None, option("--model", "-m", help="Its base model. [default: the one it names]", panel=MODEL, metavar="REF")
    ] = None,
    device: Annotated[
        str, option("--device", help="auto, cpu, cuda[:N], mps or xpu[:N].", panel=MODEL, parser=device_name, metavar="NAME")
    ] = "cpu",
    dtype: Annotated[
        str,
        choice_option(
            "--dtype", help="Precision of the result.", panel=MODEL, values=opt.DTYPES[1:],
            aliases=opt.DTYPE_ALIASES,
        ),
    ] = "float32",
    prompt: Annotated[
        list[str] | None, option("--prompt", help="Compare the two on this text (repeatable).", panel=RUN, metavar="TEXT")
    ] = None,
    access: opt.Access,
    display: opt.JsonQuiet,
) -> int:  # fmt: skip
    """Writes the merged model after its answers were compared with the adapter's."""
    if output is None:
        raise UsageError("no output folder given", hint="name a folder with --output DIR")
    from llmkit.training.merge import PROMPTS, MergeSettings, merge_adapter

    out = display.console
    settings = MergeSettings(adapter, model, device, dtype, tuple(prompt or PROMPTS), access.offline, access.trust_remote_code)
    merged = merge_adapter(settings, output, overwrite=overwrite, report=out)
    if display.json_output:
        console.write(json.dumps(merged.record, ensure_ascii=False) + "\n")
    else:
        for comparison in merged.comparisons:
            out.notice(_line(comparison))
    out.notice(f"{output}: {merged.record['base']} with {adapter}, {dtype}")
    return 0


def _line(compared: Comparison) -> str:
    same = "same greedy text" if compared.same_text else f"greedy text differs: '{compared.before}' became '{compared.after}'"
    return f"'{compared.prompt[:40]}': scores differ by at most {compared.difference:.2g}, {same}"
