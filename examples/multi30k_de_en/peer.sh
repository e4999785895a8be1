#!/usr/bin/env bash
# fairseq's own NAT-CRF, static transitions, of the same size, data and number of updates, with its
# length classifier and without refinement. `--user-dir` mends what keeps it from running; of what
# makes our trainings fast it gets the memory that is kept, no more.
source "$(dirname "$0")/settings.sh"
layers=()
for side in encoder decoder; do
    layers+=("--$side-layers" 4 "--$side-embed-dim" 256 "--$side-ffn-embed-dim" 1024)
    layers+=("--$side-attention-heads" 4 "--$side-learned-pos")
done
train nacrf "$distilled" "$N" --task translation_lev --arch nacrf_transformer --criterion nat_loss \
    --noise full_mask --pred-length-offset --length-loss-factor 0.1 --apply-bert-init \
    --share-all-embeddings --dropout 0.1 --label-smoothing 0.1 "${layers[@]}" \
    --optimizer adam --adam-betas '(0.9, 0.98)' --lr 1e-3 --lr-scheduler inverse_sqrt \
    --warmup-updates 500
for set in valid:valid test2016:test test2017:test1; do
    out="$run/out/${set%:*}/nacrf.1"
    translate "$run/nacrf/checkpoint_best.pt" "${set#*:}" "$out" --task translation_lev \
        --iter-decode-max-iter 0 --iter-decode-with-beam 1
    compare "${set%:*}" "$out" "$run/out/${set%:*}/nart_dcrf.1"
done
