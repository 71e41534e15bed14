"""The picture of an HTML report in docs/evaluate.md, on a desktop and, dark, on a phone, as docs/img/report.png.

python scripts/report_picture.py        measures, and draws the report with Chromium, which must be installed
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "img" / "report.png"
COMMAND = (
    "evaluate", "perplexity", "-i", "shakespeare.jsonl", "--limit", "200", "--fail-if", "bits_per_byte > 3",
    "--report", "report.html", "-q",
)  # fmt: skip
#: Pixels: the width of the desktop's and the phone's window, the height of both, and the space around them.
DESKTOP, PHONE, HEIGHT, MARGIN = 940, 390, 780, 16
#: An iframe takes its colors from the color scheme of the page around it.
PAGE = f"""<!doctype html><body style="margin:0;background:#8b93a1;display:flex;gap:{MARGIN}px;padding:{MARGIN}px">
<iframe src="report.html" style="width:{DESKTOP}px;height:{HEIGHT}px;border:0"></iframe>
<iframe src="report.html" style="width:{PHONE}px;height:{HEIGHT}px;border:0;color-scheme:dark"></iframe></body>
"""
#: Without a screen, a network or a sandbox, as in a container.
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--allow-file-access-from-files",
    f"--window-size={DESKTOP + PHONE + 3 * MARGIN},{HEIGHT + 2 * MARGIN}",
)  # fmt: skip


def draw(browser: str, folder: Path) -> None:
    """Measures in `folder`, and writes the picture. Raises CalledProcessError."""
    shutil.copy(ROOT / "examples" / "finetune" / "shakespeare.jsonl", folder)
    subprocess.run([sys.executable, "-m", "llmkit", *COMMAND], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "page.html").write_text(PAGE)
    shot = (*OPTIONS, f"--user-data-dir={folder / 'browser'}", f"--screenshot={PICTURE}", (folder / "page.html").as_uri())
    subprocess.run([browser, *shot], check=True, capture_output=True)


if __name__ == "__main__":
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        sys.exit("needs Chromium or Chrome on the PATH")
    with tempfile.TemporaryDirectory() as scratch:
        draw(found, Path(scratch))
