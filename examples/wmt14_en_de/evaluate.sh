#!/usr/bin/env bash
# sacreBLEU (13a, cased) on newstest2014.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
students=("${systems[@]/#/$run/out/}")
bleu test "$run/out/teacher" \
    "${students[@]/%/.1}" "${students[@]/%/.9}" "${students[@]/%/.19}"
