#!/usr/bin/env bash
# The second stage of NART-CRF and NART-DCRF once more with another seed (OTHER_SEED, default 2).
source "$(dirname "$0")/settings.sh"
SEED="${OTHER_SEED:-2}"
for system in nart_crf nart_dcrf; do
    name="$system.seed$SEED"
    second_stage "$name" "$system" $((N / 2)) nart.first
    for set in valid:valid test2016:test test2017:test1; do
        out="$run/out/${set%:*}"
        translate_lengths "$name" "${set#*:}" "$out"
        bleu "${set%:*}" "$out/$name".{1,9,19,5x4}
    done
done
