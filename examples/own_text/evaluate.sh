#!/usr/bin/env bash
# BLEU of the teacher and of the students with 1, 9 and 19 lengths and with 4 paths of 5; paired bootstrap
# against the teacher.
source "$(dirname "$0")/settings.sh"
for set in valid test; do
    out="$run/out/$set"
    translate_all "$set" "$out"
    for lengths in 1 9 19 5x4; do
        students_of "$out" "$lengths"
        compare "$set" "$out/teacher" "${students[@]}"
    done
done
