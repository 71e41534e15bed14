#!/usr/bin/env bash
# The story writer learns to write like Shakespeare, in about a minute on two CPU cores. The figures before and after are on
# speeches it has not seen. shakespeare.jsonl: 800 speeches of his plays, which are in the public domain.
#
#   examples/finetune/style.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-adapters/shakespeare}

llmkit finetune "$here/shakespeare.jsonl" --output "$out" --valid-split 10% --epochs 3 --learning-rate 1e-3

for adapter in "" "$out"; do
    echo "--- ${adapter:-without an adapter}"
    llmkit generate "KING RICHARD:" ${adapter:+--adapter "$adapter"} --temperature 0.7 --seed 3 --max-new-tokens 60 --echo --quiet
done
