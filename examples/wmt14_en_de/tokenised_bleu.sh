#!/usr/bin/env bash
# After evaluate.sh: BLEU of Moses' tokens (`pip install sacremoses`), as papers of the time give it; then
# with compounds split at their hyphens, as many of them did, which raises it.
source "$(dirname "$0")/settings.sh"
command -v sacremoses > /dev/null || refuse "sacremoses is not installed: pip install sacremoses"
bleu_options=(--tokenize none --force)
names=(teacher)
for lengths in 1 9 19 5x4; do
    students_of "$run/out" "$lengths"
    names+=("${students[@]##*/}")
done
moses="$run/moses"
mkdir -p "$moses/split"
for file in "$text/test.raw.$tgt" "${names[@]/#/$run/out/}"; do
    sacremoses -l "$tgt" -q tokenize < "$file" > "$moses/${file##*/}"
    sed -E 's/(\S)-(\S)/\1 ##AT##-##AT## \2/g' "$moses/${file##*/}" > "$moses/split/${file##*/}"
done
for text in "$moses" "$moses/split"; do
    bleu test "${names[@]/#/$text/}"
done
