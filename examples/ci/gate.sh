#!/usr/bin/env bash
# A quality gate for any CI system: 0 passed, 3 some rows failed, 4 worse than allowed, 2 bad input, 5 could not run.
#
#   examples/ci/gate.sh TESTSET.jsonl [BASELINE.json]
#
# Answers the test set with the model (LLMKIT_MODEL, by default the built-in one), scores the answers, holds them against the
# baseline of the last good run where there is one, and leaves result.json, result.md and result.xml in the current folder.
# Of your own test set: MAX_NEW_TOKENS, the length of its answers (1: those of testset.jsonl are one word each), MIN_EXACT_MATCH in
# percent, MAX_REGRESSION against the baseline (2%: relative; 2: in points).
set -eu
if [ $# -eq 0 ]; then
    echo "usage: $0 TESTSET.jsonl [BASELINE.json]" >&2
    exit 2
fi
testset=$1
baseline=${2:-}

gates=(--fail-if "exact_match < ${MIN_EXACT_MATCH:-30}")
if [ -n "$baseline" ]; then
    gates+=(--baseline "$baseline" --max-regression "${MAX_REGRESSION:-2%}")
fi

exec llmkit evaluate score --metrics exact_match,chrf --model "${LLMKIT_MODEL:-builtin:stories}" \
    --input "$testset" --max-new-tokens "${MAX_NEW_TOKENS:-1}" --normalize case,punctuation,space \
    "${gates[@]}" --report result.json --report result.md --report result.xml
