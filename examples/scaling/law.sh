#!/usr/bin/env bash
# Small models of several sizes, trained alike, and the power law of their losses: FOLDER/law.svg.
#
#   examples/scaling/law.sh FOLDER [TEXTS.jsonl]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: law.sh FOLDER [TEXTS.jsonl]}
texts=${2:-$here/../finetune/shakespeare.jsonl}
widths=${WIDTHS:-16 48 128}
mkdir -p "$folder"

# A tenth of the texts, every tenth, is kept for the measurement.
awk 'NR % 10' "$texts" > "$folder/train.jsonl"
awk 'NR % 10 == 0' "$texts" > "$folder/test.jsonl"
cd "$folder"

# shellcheck disable=SC2086  # one word a width
python3 "$here/train.py" train.jsonl --steps "${STEPS:-100}" $widths

: > suite.toml
results=()
for width in $widths; do
    printf '[sets.width-%s]\nmeasure = "perplexity"\nmodel = "trained/%s"\ninput = "test.jsonl"\nreport = ["width-%s.json"]\n' \
        "$width" "$width" "$width" >> suite.toml
    results+=("width-$width.json")
done
llmkit evaluate run suite.toml
llmkit evaluate compare "${results[@]}" --plot law.svg
