#!/usr/bin/env bash
# BLEU on the lower-cased, tokenised test set, as papers give it for IWSLT14.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
students=("${systems[@]/#/$run/out/}")
sacrebleu -w 2 "$text/test.raw.$tgt" --tokenize none --force -i "$run/out/teacher" \
    "${students[@]/%/.1}" "${students[@]/%/.9}" "${students[@]/%/.19}"
