"""The picture in the README: a terminal with real runs of llmkit, as docs/img/first-run.svg.

python scripts/picture.py        runs the commands and draws what they print
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from textwrap import wrap

PICTURE = Path(__file__).parent.parent / "docs" / "img" / "first-run.svg"
#: All run in one empty folder, in this order. What is on stderr comes first, in gray.
COMMANDS = (
    'llmkit generate "Once upon a time" --temperature 0.6 --repetition-penalty 1.1 --seed 11 --max-new-tokens 40 --echo',
    'llmkit translate "Where is the station?" --to fr',
    "echo 'It was a fine day. The sun shone on the sea.' > book.txt",
    "llmkit evaluate perplexity -i book.txt --json | jq .scores.bits_per_byte",
    'llmkit evaluate perplexity -q -i book.txt --fail-if "bits_per_byte > 1" > /dev/null; echo $?',
)
COLUMNS = 96
#: Pixels: a letter of the 13-pixel monospace font, a line, the frame.
LETTER, LINE, MARGIN, BAR = 7.83, 19, 18, 34
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
BACKGROUND, FOREGROUND, GRAY, GREEN, RED = "#16181d", "#e6e6e6", "#8b93a1", "#7fd88f", "#ff8f8f"


def ran(command: str, folder: str) -> list[tuple[str, str]]:
    """What a command printed: (text, color) a line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMKIT_")}
    environment |= {
        "NO_COLOR": "1",
        "PATH": os.pathsep.join([environment.get("PATH", os.defpath), str(Path(sys.executable).parent)]),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": folder,
    }
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    notices = [(line, RED if line.startswith("error:") else GRAY) for line in done.stderr.splitlines()]
    return notices + [(line, FOREGROUND) for line in done.stdout.splitlines()]


def screen() -> list[list[tuple[str, str]]]:
    """The lines of the terminal, each as colored parts."""
    lines: list[list[tuple[str, str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            first, *more = wrap(command, COLUMNS - 4, subsequent_indent="\u00a0" * 4, break_on_hyphens=False)
            ends = [" \\"] * len(more) + [""]
            lines.append([("$ ", GREEN), (first + ends[0], FOREGROUND)])
            lines += [[(text + end, FOREGROUND)] for text, end in zip(more, ends[1:], strict=True)]
            for text, color in ran(command, folder):
                lines += [[(part, color)] for part in (wrap(text, COLUMNS, break_on_hyphens=False) or [""])]
            lines.append([("", FOREGROUND)])
    return lines[:-1]


def svg(lines: list[list[tuple[str, str]]]) -> str:
    """The terminal as a picture."""
    width, height = round(COLUMNS * LETTER + 2 * MARGIN), BAR + len(lines) * LINE + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="A terminal in which llmkit writes a story, translates a sentence, and holds a text against a gate">',
        f'<rect width="{width}" height="{height}" rx="9" fill="{BACKGROUND}"/>',
        *(f'<circle cx="{20 + 20 * n}" cy="17" r="6" fill="{color}"/>' for n, color in enumerate(("#ff5f57", "#febc2e", "#28c840"))),
        f'<g font-family="{FONTS}" font-size="13">',
    ]
    for number, line in enumerate(lines):
        spans = "".join(f'<tspan fill="{color}">{escape(text)}</tspan>' for text, color in line if text)
        if spans:
            parts.append(f'<text x="{MARGIN}" y="{BAR + LINE * number + 14}">{spans}</text>')
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg(screen()), encoding="utf-8")
