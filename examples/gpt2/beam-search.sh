#!/usr/bin/env bash
# Beam search as many articles on GPT-2 show it: max_length=50, num_beams=5, no_repeat_ngram_size=2.
# Where the hub can't be reached (exit code 5) the built-in model stands in.
set -u
prompt=${1:-"The future of language models"}
options=(--max-length 50 --num-beams 5 --no-repeat-ngram-size 2 --echo)

llmkit generate "$prompt" --model gpt2 "${options[@]}"
code=$?
if [ "$code" -eq 5 ]; then
    llmkit generate "$prompt" --model builtin:stories "${options[@]}"
    code=$?
fi
exit "$code"
