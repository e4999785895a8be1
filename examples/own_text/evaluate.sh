#!/usr/bin/env bash
# BLEU of the teacher and of the students with 1, 9 and 19 lengths; paired bootstrap against the teacher.
source "$(dirname "$0")/settings.sh"
for set in valid test; do
    out="$run/out/$set"
    translate_all "$set" "$out"
    students=("${systems[@]/#/$out/}")
    compare "$set" "$out/teacher" "${students[@]/%/.1}" "${students[@]/%/.9}" \
        "${students[@]/%/.19}"
done
