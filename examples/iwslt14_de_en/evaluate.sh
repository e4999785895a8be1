#!/usr/bin/env bash
# BLEU on the lower-cased, tokenised test set, as papers give it for IWSLT14.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
sacrebleu "$text/test.raw.$tgt" --tokenize none --force -i "$run/out/teacher" \
    "$run/out"/{nart,nart_crf,nart_dcrf}.{1,9,19}
