#!/usr/bin/env bash
# CTC with two frames a source token, N/2 updates from the teacher's weights and N/2 more to a learning
# rate of 0, as the other students; BLEU of the best path and of a beam of 10 that the teacher ranks.
source "$(dirname "$0")/settings.sh"
first_options+=(--ctc-split 2) second_options+=(--ctc-split 2)
first_stage nart_ctc $((N / 2))
second_stage nart_ctc nart_ctc $((N / 2)) nart_ctc.first
tune nart_ctc --ctc-beam 10
for set in valid:valid test2016:test test2017:test1; do
    out="$run/out/${set%:*}"
    translate "$run/nart_ctc.pt" "${set#*:}" "$out/nart_ctc.1"
    translate "$run/nart_ctc.pt" "${set#*:}" "$out/nart_ctc.10" --ctc-beam 10 "${rule[@]}"
    bleu "${set%:*}" "$out"/nart_ctc.{1,10}
done
