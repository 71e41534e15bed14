"""The examples run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_beam_search_falls_back_to_the_built_in_model_without_a_network(llmkit, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [EXAMPLES / "beam-search.sh", "Once upon a time"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    options = ["--max-length", "50", "--num-beams", "5", "--no-repeat-ngram-size", "2", "--echo"]
    assert done.stdout == llmkit("generate", "Once upon a time", *options).out
