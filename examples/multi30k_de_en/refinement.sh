#!/usr/bin/env bash
# The systems that refine: BLEU with several numbers of iterations; of refinement, whose repeated words are
# removed as its paper has it, with each rule that stops a sentence too, with the mean of its iterations, and
# with more lengths; of CMLM with five lengths, as its paper has it.
source "$(dirname "$0")/settings.sh"
# valid is translated with as many iterations as are trained
for system in nart_refinement nart_cmlm; do alone "$system" --refinement-iterations 4; done
adaptive=(--refinement-stop jaccard --dedup)
tune nart_refinement "${adaptive[@]}" --length-candidates 9
for set in valid:valid test2016:test test2017:test1; do
    name="${set%:*}" subset="${set#*:}"
    refined="$run/out/$name/nart_refinement" filled="$run/out/$name/nart_cmlm"
    for iterations in 1 2 5 10; do
        translate "$run/nart_refinement.pt" "$subset" "$refined.$iterations" \
            --refinement-iterations "$iterations" --dedup
    done
    for stop in equality jaccard unchanged; do
        translate "$run/nart_refinement.pt" "$subset" "$refined.$stop" \
            --refinement-stop "$stop" --dedup --print-step
        echo "$name, $stop: $(LC_ALL=C grep -a ^I- "$refined.$stop.log" | cut -f2 |
            awk '{ total += $1 } END { if (NR) print total / NR }') iterations a sentence"
    done
    translate "$run/nart_refinement.pt" "$subset" "$refined.5_lengths" "${adaptive[@]}" --length-candidates 5
    translate "$run/nart_refinement.pt" "$subset" "$refined.9_lengths" "${adaptive[@]}" \
        --length-candidates 9 "${rule[@]}"
    for iterations in 1 4 10; do
        for lengths in 1 5; do
            translate "$run/nart_cmlm.pt" "$subset" "$filled.$iterations.$lengths" \
                --refinement-iterations "$iterations" --length-candidates "$lengths"
        done
    done
    bleu "$name" "$refined".{1,2,5,10,equality,jaccard,unchanged,5_lengths,9_lengths} \
        "$filled".{1,4,10}.{1,5}
done
