"""`llmkit push`: a finished adapter or merged model to a hub, with its card.

llmkit push adapters/mine me/mine
llmkit push models/mine me/mine-merged --private
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add
from llmkit.cli.help import Page
from llmkit.cli.parsing import RUN, option

app = typer.Typer(add_completion=False)


_PAGE = Page(("llmkit push adapters/mine me/mine", "llmkit push models/mine me/mine-merged --private"), guide="finetune")


@add(app, "push", help="Upload a finished adapter or merged model to a hub: only the files that its record lists.", page=_PAGE)
def push(
    *,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder that finetune or merge wrote.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The repository on the hub: org/name.")],
    private: Annotated[bool, option("--private", help="Make a new repository private.", panel=RUN)] = False,
    display: opt.JsonQuiet,
) -> int:
    """Publishes the folder and says where it is."""
    from llmkit.training.hub_upload import upload

    published = upload(folder, name, private=private, report=display.console)
    if display.json_output:
        console.write(json.dumps({"name": published.name, "url": published.url, "files": list(published.files)}) + "\n")
    else:
        display.console.notice(published.url)
    return 0
