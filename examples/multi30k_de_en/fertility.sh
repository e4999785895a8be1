#!/usr/bin/env bash
# NAT with fertilities. They come from eflomal's links (pip install eflomal), or without eflomal from the
# teacher's attention, which is harder to learn from (docs/results/fertilities.md). From there N/6 of
# fine-tuning with the teacher, from fifteen times the published rate, which is for a far longer one, to 0,
# and as many without the teacher, to tell what comes of the teacher. BLEU of all three with 1, 10 and 100
# candidates.
source "$(dirname "$0")/settings.sh"
aligner=(--teacher "$teacher")
if python -c 'import eflomal' 2> /dev/null; then aligner=(--eflomal); fi
once align fairseq-nart align "$distilled" "${aligner[@]}" --splits train valid
alone nart_fertility
further() {  # further NAME OPTIONS...
    train "$1" "$distilled" $((N / 6)) --arch "nart_fertility_$size" --eval-bleu \
        --init-from "$run/nart_fertility.pt" "${second_options[@]}" --lr 3e-4 \
        --warmup-updates $((N / 60)) --total-num-update $((N / 6)) "${@:2}"
    average "$1" "$run/$1.pt"
}
further nart_fertility.finetuned --finetune-with "$teacher"
further nart_fertility.longer
for set in valid:valid test2016:test test2017:test1; do
    out="$run/out/${set%:*}"
    for name in nart_fertility{,.finetuned,.longer}; do
        translate "$run/$name.pt" "${set#*:}" "$out/$name.1"
        tune "$name" --fertility-samples 10
        for samples in 10 100; do
            translate "$run/$name.pt" "${set#*:}" "$out/$name.$samples" \
                --fertility-samples "$samples" "${rule[@]}"
        done
    done
    bleu "${set%:*}" "$out"/nart_fertility{,.finetuned,.longer}.{1,10,100}
done
