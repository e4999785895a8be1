#!/usr/bin/env bash
# sacreBLEU (13a, cased) on newstest2014.
source "$(dirname "$0")/settings.sh"
translate_all test "$run/out"
sacrebleu "$text/test.raw.$tgt" -i "$run/out/teacher" "$run/out"/{nart,nart_crf,nart_dcrf}.{1,9,19}
