#!/usr/bin/env bash
# What each choice is worth: NART-DCRF with one choice changed, N/3 updates in all on both sides.
source "$(dirname "$0")/settings.sh"
N=$((N / 3))
second_options+=(--total-num-update $((N / 2)))

ablation() {  # ablation NAME DATA FIRST OPTIONS...: NART-DCRF from the best of NART called FIRST
    local first="$run/ablation/$3"
    train "ablation/$3" "$2" $((N / 2)) --arch nart_cpu --eval-bleu --init-from "$teacher" \
        "${first_options[@]}" "${@:4}"
    train "ablation/$1" "$2" $((N / 2)) --arch nart_dcrf_cpu --eval-bleu \
        --init-from "$first/checkpoint_best.pt" "${second_options[@]}" "${@:4}"
}
ablation base "$distilled" first
ablation t_plus_c "$distilled" first.t_plus_c --length-predictor offset
ablation raw "$data" first.raw
train ablation/lambda_0 "$distilled" $((N / 2)) --arch nart_dcrf_cpu --eval-bleu \
    --init-from "$run/ablation/first/checkpoint_best.pt" "${second_options[@]}" --nar-loss-weight 0
train ablation/cold "$distilled" "$N" --arch nart_dcrf_cpu --eval-bleu "${second_options[@]}" \
    --lr 7e-4 --warmup-updates 200 --total-num-update "$N"

for name in base t_plus_c raw lambda_0 cold; do
    for set in valid:valid test2016:test; do
        out="$run/out/${set%:*}/ablation.$name"
        translate "$run/ablation/$name/checkpoint_best.pt" "${set#*:}" "$out"
        bleu "${set%:*}" "$out"
    done
done
