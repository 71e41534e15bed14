"""Prints one of the README's set-up commands, so that CI runs what the README says.

python scripts/readme.py run     the one that installs and writes a story
python scripts/readme.py test    the one that installs and passes the tests
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ORDER = ("run", "test")


def command(name: str, readme: Path) -> str:
    """The set-up command `name` of the README: its first code blocks that install, in `ORDER`."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)\n```", readme.read_text(encoding="utf-8"), re.DOTALL)
    installs = [block for block in blocks if "pip install" in block]
    if len(installs) != len(ORDER):
        raise SystemExit(f"{readme}: {len(installs)} blocks install, expected {len(ORDER)}")
    return installs[ORDER.index(name)]


if __name__ == "__main__":
    print(command(sys.argv[1], Path(__file__).parent.parent / "README.md"))
