#!/usr/bin/env bash
# NAT with fertilities, which come from the teacher's attention: N/2 updates from the teacher's weights
# and N/2 more to a learning rate of 0, as the other students; from there N/6 of fine-tuning with the
# teacher. BLEU of both with 1, 10 and 100 candidates.
source "$(dirname "$0")/settings.sh"
fertility() {  # fertility NAME FROM UPDATES OPTIONS...
    train "$1" "$distilled" "$3" --arch nart_fertility_cpu --eval-bleu --init-from "$2" "${@:4}"
    average "$1" "$run/$1.pt"
}
once align fairseq-nart align "$distilled" --teacher "$teacher" --splits train valid
fertility nart_fertility.first "$teacher" $((N / 2)) "${first_options[@]}"
fertility nart_fertility "$run/nart_fertility.first.pt" $((N / 2)) "${second_options[@]}"
fertility nart_fertility.finetuned "$run/nart_fertility.pt" $((N / 6)) \
    --finetune-with "$teacher" --lr-scheduler fixed --lr 2e-5
for set in valid:valid test2016:test test2017:test1; do
    out="$run/out/${set%:*}"
    for name in nart_fertility nart_fertility.finetuned; do
        translate "$run/$name.pt" "${set#*:}" "$out/$name.1"
        for samples in 10 100; do
            translate "$run/$name.pt" "${set#*:}" "$out/$name.$samples" \
                --fertility-samples "$samples" --rescore-with "$teacher" "${rescoring[@]}"
        done
    done
    sacrebleu "$text/${set%:*}.raw.$tgt" -i "$out"/nart_fertility{,.finetuned}.{1,10,100}
done
