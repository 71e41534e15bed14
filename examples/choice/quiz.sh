#!/usr/bin/env bash
# Question answering and sentiment by multiple choice, with gates (exit code 4).
#
#   examples/choice/quiz.sh [REPORT.json]
set -eu
report=${1:+$(realpath "$1")}
cd "$(dirname "$0")"

llmkit evaluate run suite.toml ${LLMKIT_MODEL:+--model "$LLMKIT_MODEL"} ${report:+--report "$report"}
