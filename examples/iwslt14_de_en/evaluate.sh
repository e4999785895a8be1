#!/usr/bin/env bash
# BLEU on the lower-cased, tokenised test set, as papers give it for IWSLT14.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
bleu test "$run/out/teacher"
for lengths in 1 9 19 5x4; do
    students_of "$run/out" "$lengths"
    bleu test "${students[@]}"
done
