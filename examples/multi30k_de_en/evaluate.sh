#!/usr/bin/env bash
# BLEU of the teacher and of the students with 1, 9 and 19 lengths; paired bootstrap
# against the first of SYSTEMS.
source "$(dirname "$0")/settings.sh"
for set in valid:valid test2016:test test2017:test1; do
    name="${set%:*}" out="$run/out/${set%:*}"
    students=("${systems[@]/#/$out/}")
    translate_all "${set#*:}" "$out"
    bleu "$name" "$out/teacher"
    for lengths in 1 9 19; do
        compare "$name" "${students[@]/%/.$lengths}"
    done
done
