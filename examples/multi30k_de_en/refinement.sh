#!/usr/bin/env bash
# The systems that refine, N updates each from the teacher's weights, after distill.sh; their BLEU with
# 1, 2, 5 and 10 iterations and with each rule that stops a sentence, with the mean of its iterations.
source "$(dirname "$0")/settings.sh"
refining() {  # refining NAME: valid is translated with as many iterations as are trained
    train "$1" "$distilled" "$N" --arch "$1_$size" --eval-bleu --init-from "$teacher" \
        --refinement-iterations 4 "${second_options[@]}" --lr 7e-4 --warmup-updates 200 \
        --total-num-update "$N"
    average "$1" "$run/$1.pt"
}
refining nart_refinement
refining nart_cmlm
for set in valid:valid test2016:test; do
    name="${set%:*}" out="$run/out/${set%:*}"
    for iterations in 1 2 5 10; do
        for system in nart_refinement nart_cmlm; do
            translate "$run/$system.pt" "${set#*:}" "$out/$system.$iterations" \
                --refinement-iterations "$iterations"
        done
    done
    for rule in equality jaccard unchanged; do
        translate "$run/nart_refinement.pt" "${set#*:}" "$out/nart_refinement.$rule" \
            --refinement-stop "$rule" --print-step
        echo "$name, $rule: $(grep ^I- "$out/nart_refinement.$rule.log" | cut -f2 |
            awk '{ total += $1 } END { if (NR) print total / NR }') iterations a sentence"
    done
    bleu "$name" "$out"/nart_refinement.{1,2,5,10,equality,jaccard,unchanged} \
        "$out"/nart_cmlm.{1,2,5,10}
done
