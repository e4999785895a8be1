#!/usr/bin/env bash
# BLEU on the lower-cased, tokenised test set, as papers give it for IWSLT14.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
students=("${systems[@]/#/$run/out/}")
bleu test "$run/out/teacher" \
    "${students[@]/%/.1}" "${students[@]/%/.9}" "${students[@]/%/.19}"
