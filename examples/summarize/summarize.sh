#!/usr/bin/env bash
# A summary of every .txt file in a folder, a JSON row a file.
#
#   examples/summarize/summarize.sh FOLDER OUTPUT.jsonl
set -euo pipefail
folder=${1:?usage: summarize.sh FOLDER OUTPUT.jsonl}
output=${2:?usage: summarize.sh FOLDER OUTPUT.jsonl}

# The rows are built by Python's json, so that quotes and line ends in a text can't break a row.
python3 - "$folder" > "$output.rows.jsonl" <<'PYTHON'
import json, pathlib, sys

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.txt")):
    print(json.dumps({"file": path.name, "text": path.read_text(encoding="utf-8").strip()}, ensure_ascii=False))
PYTHON

llmkit generate --input "$output.rows.jsonl" --output "$output" --output-field summary \
    --template $'{text}\n\nIn one sentence:' --truncate right --max-new-tokens "${MAX_NEW_TOKENS:-60}"
