#!/usr/bin/env bash
# sacreBLEU (13a, cased) on newstest2014.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
students=("${systems[@]/#/$run/out/}")
sacrebleu -w 2 "$text/test.raw.$tgt" -i "$run/out/teacher" \
    "${students[@]/%/.1}" "${students[@]/%/.9}" "${students[@]/%/.19}"
