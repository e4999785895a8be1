#!/usr/bin/env bash
# NART-DCRF trained with other numbers of candidates K and ranks R: N/6 updates each, from the NART of
# students.sh. bench.sh compares them.
source "$(dirname "$0")/settings.sh"
sweep() {  # sweep NAME OPTIONS...
    local name="$1"
    shift
    train "sweep/$name" "$distilled" $((N / 6)) --arch nart_dcrf_cpu --eval-bleu \
        --init-from "$run/nart.first.pt" "${second_options[@]}" --total-num-update $((N / 6)) "$@"
    average "sweep/$name" "$run/sweep/$name.pt"
}
sweep base
for candidates in 8 256; do sweep "k$candidates" --crf-candidates "$candidates"; done
for rank in 8 128; do sweep "r$rank" --crf-rank "$rank"; done
