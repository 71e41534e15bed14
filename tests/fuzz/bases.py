"""What is damaged: whole models, an adapter, and runs that were stopped or are finished."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

from conftest import write_rows

from llmkit.cli import app

#: Options of the runs whose journals and checkpoints are damaged.
GENERATE = ("generate", "-i", "in.jsonl", "-o", "out.jsonl", "--max-new-tokens", "2", "--batch-size", "2", "--chat-template", "none", "-q")
FINETUNE = ("finetune", "rows.jsonl", "--max-steps", "4", "--save-steps", "1", "--keep-checkpoints", "2", "-o", "run", "-q")


def made(folder: Path, llama: Path, gpt2: Path) -> Path:
    """Fills `folder`: the models `llama` and `gpt2`, an adapter, and in `job` and `training` a stopped and a finished run each."""
    shutil.copytree(llama, folder / "llama")
    shutil.copytree(gpt2, folder / "gpt2")
    (folder / "llama" / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\n---\n# A model\n")
    texts = [{"text": f"the king {'and the queen ' * (i % 4)}lived"} for i in range(12)]
    for name in ("job", "training"):
        (folder / name).mkdir()
    with chdir(folder / "job"):
        write_rows(Path("in.jsonl"), [{"prompt": f"the king {i}" if i != 7 else 3, "n": i} for i in range(9)])
        _run(*GENERATE, "-m", folder / "llama", "--max-errors", "0", code=3)
        shutil.copy("out.jsonl.journal", "stopped.journal")
        _run(*GENERATE, "-m", folder / "llama", code=3)
    with chdir(folder / "training"):
        write_rows(Path("rows.jsonl"), texts)
        _run(*FINETUNE, "-m", folder / "gpt2")
        Path("run").rename("finished")
        _run(*FINETUNE, "-m", folder / "gpt2", "--max-time", "0.001s", code=124)
        Path("run").rename("stopped")
        _run("finetune", "rows.jsonl", "-m", folder / "llama", "--max-steps", "2", "-o", folder / "adapter", "-q")
        shutil.rmtree(folder / "adapter" / "checkpoints", ignore_errors=True)
    return folder


def _run(*arguments: object, code: int = 0) -> None:
    ended = app.run([str(a) for a in arguments])
    if ended != code:
        raise RuntimeError(f"llmkit {arguments[0]} ended with {ended}")
