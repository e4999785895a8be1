#!/usr/bin/env bash
# NAT with fertilities, which come from the teacher's attention: N/2 updates from the teacher's weights
# and N/2 more to a learning rate of 0, as the other students; from there N/6 of fine-tuning with the
# teacher, at five times the published rate, which is for a far longer one. BLEU of both with 1, 10 and
# 100 candidates.
source "$(dirname "$0")/settings.sh"
once align fairseq-nart align "$distilled" --teacher "$teacher" --splits train valid
first_stage nart_fertility $((N / 2))
second_stage nart_fertility nart_fertility $((N / 2)) nart_fertility.first
train nart_fertility.finetuned "$distilled" $((N / 6)) --arch nart_fertility_cpu --eval-bleu \
    --init-from "$run/nart_fertility.pt" --finetune-with "$teacher" --lr-scheduler fixed --lr 1e-4
average nart_fertility.finetuned "$run/nart_fertility.finetuned.pt"
for set in valid:valid test2016:test test2017:test1; do
    out="$run/out/${set%:*}"
    for name in nart_fertility nart_fertility.finetuned; do
        translate "$run/$name.pt" "${set#*:}" "$out/$name.1"
        tune "$name" --fertility-samples 10
        for samples in 10 100; do
            translate "$run/$name.pt" "${set#*:}" "$out/$name.$samples" \
                --fertility-samples "$samples" "${rule[@]}"
        done
    done
    bleu "${set%:*}" "$out"/nart_fertility{,.finetuned}.{1,10,100}
done
