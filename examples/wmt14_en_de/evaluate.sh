#!/usr/bin/env bash
# sacreBLEU (13a, cased) on newstest2014.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
bleu test "$run/out/teacher"
for lengths in 1 9 19 5x4; do
    students_of "$run/out" "$lengths"
    bleu test "${students[@]}"
done
