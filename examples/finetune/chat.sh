#!/usr/bin/env bash
# The story writer, which has never seen a conversation, learns to answer a question. chat.jsonl: 60 conversations made for this;
# chat.jinja: the template that turns one into text, for a model that has none.
#
#   examples/finetune/chat.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-adapters/chat}

llmkit finetune "$here/chat.jsonl" --chat-template "$here/chat.jinja" --output "$out" --epochs 8 --learning-rate 4e-3

for question in "What is the opposite of hot?" "What is the opposite of night?"; do
    llmkit generate "$question" --adapter "$out" --chat-template "$here/chat.jinja" --max-new-tokens 24 --quiet
done
