"""`evaluate run` with a model on a server: sets ask it through the endpoint that their own options name."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Run, write_rows
from servers import serving

SUITE = """
model = "openai:tiny"

[sets.chat]
measure = "score"
input = "rows.jsonl"
metrics = "exact_match"

[sets.again]
measure = "score"
input = "rows.jsonl"
metrics = "chrf"

[sets.text]
measure = "score"
input = "rows.jsonl"
metrics = "exact_match"
chat_template = "none"
"""


def test_each_set_asks_the_server_through_its_own_endpoint(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": text, "reference": "a"} for text in ("the king", "a house")])
    suite = tmp_path / "suite.toml"
    with serving() as server:
        suite.write_text(SUITE.replace("rows.jsonl", str(rows)).replace('"openai:tiny"', f'"openai:tiny"\napi_base = "{server.base}"'))
        ran = run("evaluate", "run", suite, "--json")
        paths = [path.removeprefix("/v1/") for path in server.paths]
    assert ran.code == 0, ran.err
    assert set(json.loads(ran.out)["parts"]) == {"chat", "again", "text"}
    assert (paths.count("chat/completions"), paths.count("completions")) == (4, 2)
