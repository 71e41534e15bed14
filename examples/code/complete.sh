#!/usr/bin/env bash
# Functions completed from their docstrings, run against their tests, and gated by pass@1 (exit code 4 below MIN_PASS percent).
#
#   examples/code/complete.sh [solved]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" = solved ]; then
    cp "$here/solutions.jsonl" "$work/samples.jsonl"
else
    # A function ends where the next line begins that is not indented.
    llmkit generate --input "$here/problems.jsonl" --output "$work/samples.jsonl" --num-samples "${SAMPLES:-5}" \
        --temperature "${TEMPERATURE:-0.8}" --seed 1 --max-new-tokens "${MAX_NEW_TOKENS:-96}" --stop $'\ndef ' --stop $'\nclass ' --stop $'\nprint(' --stop $'\nif '
fi
llmkit evaluate code --input "$work/samples.jsonl" -k 1 --run-code --fail-if "pass@1 < ${MIN_PASS:-50}"
