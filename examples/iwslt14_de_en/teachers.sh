#!/usr/bin/env bash
# The other autoregressive rows, after distill.sh: LSTM, ConvS2S and a deep encoder with one decoder
# layer on the original text, the last on the distilled text too; and their BLEU.
source "$(dirname "$0")/settings.sh"
teachers
translate_teachers test "$run/out"
bleu test "$run/out"/teacher_{lstm,conv,deep,deep_distilled}
