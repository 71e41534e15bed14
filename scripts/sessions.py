"""The terminal sessions in the documentation, run: what a page shows is what happens.

python scripts/sessions.py docs/*.md     runs every session and writes the output that it has now
python scripts/sessions.py --check ...   says which differ, and ends with 1 if any does

A session is a block ```console whose lines that begin with `$ ` are commands; what follows each is its output. The sessions of a
page share a folder, in which stand the files that the page shows: a block after the comment <!-- file: NAME -->. Seconds and rates
differ from run to run and are not compared.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
#: What differs from run to run: seconds, rates, sizes in memory, hashes of this machine's files.
_VARIES = re.compile(r"\d[\d.,]* (?:s\b|tokens/s|rows/s)")
#: Seconds that a command may take.
_PATIENCE = 120


def rewritten(page: str, folder: Path) -> str:
    """`page` with the output that its sessions have now. folder: an empty one, in which they run."""

    def replaced(block: re.Match[str]) -> str:
        if block["file"]:
            place = folder / block["file"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block["body"], encoding="utf-8")
        if block["kind"] != "console":
            return block[0]
        body = "".join(f"$ {command}\n{_output(command, folder)}" for command, _ in commands(block["body"]))
        return block[0].replace(block["body"], body)

    return _BLOCK.sub(replaced, page)


def commands(body: str) -> Iterator[tuple[str, str]]:
    """Commands of a session, each with the output that the page shows. A backslash continues a command on the next line."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", body, flags=re.MULTILINE)[1:]
    yield from zip(parts[::2], parts[1::2], strict=True)


def comparable(text: str) -> str:
    """`text` without what differs from run to run."""
    return _VARIES.sub("N s", text)


def _output(command: str, folder: Path) -> str:
    """Both streams of a command, as a terminal of 100 columns shows them; `[exit code N]` where it is not 0."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMKIT_")}
    environment |= {"COLUMNS": "100", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / ".cache")}
    environment["LLMKIT_HOME"] = str(folder / ".cache" / "llmkit")
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        timeout=_PATIENCE,
    )  # fmt: skip
    text = done.stdout.decode("utf-8")
    text += "" if not text or text.endswith("\n") else "\n"
    return text + (f"[exit code {done.returncode}]\n" if done.returncode else "")


def differences(path: Path) -> tuple[str, list[str]]:
    """The page as it would be now, and the lines in which it differs from what it shows."""
    before = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        now = rewritten(before, Path(folder))
    changed = difflib.unified_diff(comparable(before).splitlines(), comparable(now).splitlines(), str(path), "now", lineterm="", n=1)
    return now, list(changed)


def main(words: list[str]) -> int:
    """Runs the sessions of the pages named; the exit code."""
    check, stale = "--check" in words, 0
    for path in (Path(word) for word in words if word != "--check"):
        now, changed = differences(path)
        stale += bool(changed)
        if check:
            print("\n".join(changed), end="\n" if changed else "")
        elif changed:
            path.write_text(now, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
