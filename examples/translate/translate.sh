#!/usr/bin/env bash
# Subtitles and a manual in another language, their structure kept.
#
#   examples/translate/translate.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: translate.sh FOLDER}
to=${TO:-fr}
mkdir -p "$out"

for name in talk.srt manual.md; do
    llmkit translate --input "$here/$name" --output "$out/${name%.*}.$to.${name##*.}" --from en --to "$to" --glossary "$here/glossary.csv"
done
