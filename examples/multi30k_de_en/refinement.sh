#!/usr/bin/env bash
# The systems that refine: BLEU with several numbers of iterations, of refinement with each rule that stops
# a sentence too, with the mean of its iterations, and of CMLM with five lengths, as its paper has it.
source "$(dirname "$0")/settings.sh"
# valid is translated with as many iterations as are trained
for system in nart_refinement nart_cmlm; do alone "$system" --refinement-iterations 4; done
for set in valid:valid test2016:test test2017:test1; do
    name="${set%:*}" out="$run/out/${set%:*}"
    for iterations in 1 2 4 5 10; do
        for system in nart_refinement nart_cmlm; do
            translate "$run/$system.pt" "${set#*:}" "$out/$system.$iterations" \
                --refinement-iterations "$iterations"
        done
    done
    for iterations in 4 10; do
        translate "$run/nart_cmlm.pt" "${set#*:}" "$out/nart_cmlm.$iterations.5" \
            --refinement-iterations "$iterations" --length-candidates 5
    done
    for rule in equality jaccard unchanged; do
        translate "$run/nart_refinement.pt" "${set#*:}" "$out/nart_refinement.$rule" \
            --refinement-stop "$rule" --print-step
        echo "$name, $rule: $(grep ^I- "$out/nart_refinement.$rule.log" | cut -f2 |
            awk '{ total += $1 } END { if (NR) print total / NR }') iterations a sentence"
    done
    bleu "$name" "$out"/nart_refinement.{1,2,4,5,10,equality,jaccard,unchanged} \
        "$out"/nart_cmlm.{1,2,4,5,10,4.5,10.5}
done
