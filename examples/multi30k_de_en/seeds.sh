#!/usr/bin/env bash
# The second stage of NART-CRF and NART-DCRF once more with another seed (OTHER_SEED, default 2).
source "$(dirname "$0")/settings.sh"
SEED="${OTHER_SEED:-2}"
for system in nart_crf nart_dcrf; do
    name="$system.seed$SEED"
    second_stage "$name" "$system" $((N / 2)) nart.first
    translate_lengths "$name" valid "$run/out/valid"
    translate_lengths "$name" test "$run/out/test2016"
    translate_lengths "$name" test1 "$run/out/test2017"
    for set in valid test2016 test2017; do
        bleu "$set" "$run/out/$set/$name".{1,9,19}
    done
done
