#!/usr/bin/env bash
# BLEU of the teacher and of the students with 1, 9 and 19 lengths and with 4 paths of 5; paired
# bootstrap against the first of SYSTEMS.
source "$(dirname "$0")/settings.sh"
for set in valid:valid test2016:test test2017:test1; do
    name="${set%:*}" out="$run/out/${set%:*}"
    translate_all "${set#*:}" "$out"
    bleu "$name" "$out/teacher"
    for lengths in 1 9 19 5x4; do
        students_of "$out" "$lengths"
        compare "$name" "${students[@]}"
    done
done
