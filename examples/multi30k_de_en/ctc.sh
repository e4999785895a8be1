#!/usr/bin/env bash
# CTC with two frames a source token; BLEU of the best path and of a beam of 10 that the teacher ranks.
source "$(dirname "$0")/settings.sh"
alone nart_ctc --ctc-split 2
tune nart_ctc --ctc-beam 10
for set in valid:valid test2016:test test2017:test1; do
    out="$run/out/${set%:*}"
    translate "$run/nart_ctc.pt" "${set#*:}" "$out/nart_ctc.1"
    translate "$run/nart_ctc.pt" "${set#*:}" "$out/nart_ctc.10" --ctc-beam 10 "${rule[@]}"
    bleu "${set%:*}" "$out"/nart_ctc.{1,10}
done
