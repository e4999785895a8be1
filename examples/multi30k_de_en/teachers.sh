#!/usr/bin/env bash
# The other autoregressive rows, after distill.sh: LSTM, ConvS2S and a deep encoder with one decoder
# layer on the original text, the last on the distilled text too; and their BLEU.
source "$(dirname "$0")/settings.sh"
teachers
for set in valid:valid test2016:test test2017:test1; do
    name="${set%:*}" out="$run/out/${set%:*}"
    translate_teachers "${set#*:}" "$out"
    bleu "$name" "$out"/teacher_{lstm,conv,deep,deep_distilled}
done
