#!/usr/bin/env bash
# Multi30k German-English on a CPU: data, teacher, distillation, NART, NART-CRF, NART-DCRF, BLEU.
#
#   MULTI30K=folder/of/raw/text examples/multi30k_de_en/run.sh
#
# TEACHER=folder may hold a trained teacher to use instead of training one: teacher.pt, dict.txt,
# sentencepiece.model and, if its translation of train exists, train.distilled.sp.en.gz.
# Everything is kept under NART_RUNS (default: runs). Finished steps are kept; a cut training goes on
# where it stopped when the script is run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${MULTI30K:?set MULTI30K to the folder with train.de.gz, train.en.gz, ...}"
export PATH="$PWD/.venv/bin:$PATH"
run="${NART_RUNS:-runs}/multi30k_de_en"
text="$run/text" data="$run/data" distilled="$run/distilled"
teacher="${TEACHER:+$TEACHER/teacher.pt}"
teacher="${teacher:-$run/teacher/checkpoint_best.pt}"
spm="${TEACHER:+$TEACHER/sentencepiece.model}"
spm="${spm:-$text/spm.model}"
NART_UPDATES="${NART_UPDATES:-680}" CRF_UPDATES="${CRF_UPDATES:-204}" SEED="${SEED:-1}"
RULE="${RULE:-gnmt}"  # how teacher scores are normalised: gnmt, mean or sum

binarise() {  # binarise PREFIX_OF_TRAIN FOLDER
    local dictionary=(--joined-dictionary)
    if [ -n "${TEACHER:-}" ]; then dictionary+=(--srcdict "$TEACHER/dict.txt"); fi
    test -e "$2/finished" || {
        fairseq-preprocess -s de -t en "${dictionary[@]}" --trainpref "$1" \
            --validpref "$text/valid" --testpref "$text/test2016,$text/test2017" --destdir "$2"
        touch "$2/finished"
    }
}

train() {  # train NAME DATA UPDATES OPTIONS...
    local name="$1" data="$2" updates="$3"
    shift 3
    # The mark, because fairseq does one update more when a finished training is started again.
    test -e "$run/$name/finished" || {
        fairseq-train "$data" --user-dir fairseq_nart --max-tokens 4096 --max-update "$updates" \
            --bf16 --seed "$SEED" --no-epoch-checkpoints --save-dir "$run/$name" "$@"
        touch "$run/$name/finished"
    }
}

score() {  # score NAME LENGTHS SUBSET REFERENCE: translates, prints BLEU with its signature
    local name="$1" lengths="$2" subset="$3" reference="$4" rescore=()
    local out="$run/$name.$subset.$lengths.$RULE"
    if [ "$lengths" != 1 ]; then
        rescore=(--rescore-with "$teacher" --rescore-normalization "$RULE")
    fi
    test -e "$out.txt" || {
        fairseq-generate "$data" --user-dir fairseq_nart --path "$run/$name/checkpoint_best.pt" \
            --gen-subset "$subset" --remove-bpe sentencepiece --length-candidates "$lengths" \
            "${rescore[@]}" > "$out.log"
        grep ^H- "$out.log" | sed 's/^H-//' | sort -n | cut -f3 > "$out.txt"
    }
    echo "$name, $subset, $lengths lengths, $RULE: $(sacrebleu "$reference" -i "$out.txt" -w 2 -f text)"
}

test -e "$text/test2017.raw.en" ||
    python examples/multi30k_de_en/segment.py "$MULTI30K" "$text" --model "$spm"
binarise "$text/train" "$data"
if [ -z "${TEACHER:-}" ]; then
    train teacher "$data" 2080 --arch nart_teacher_cpu
fi
if [ -e "${TEACHER:-}/train.distilled.sp.en.gz" ]; then
    cp "$text/train.de" "$text/distilled.de"
    gunzip -c "$TEACHER/train.distilled.sp.en.gz" > "$text/distilled.en"
    binarise "$text/distilled" "$distilled"
else
    test -e "$distilled/train.de-en.en.idx" ||
        fairseq-nart distill "$data" --path "$teacher" --out "$distilled"
fi
train nart "$distilled" "$NART_UPDATES" --arch nart_cpu --init-from "$teacher" --eval-bleu \
    --lr 7e-4 --warmup-updates 200
for system in crf dcrf; do
    train "$system" "$distilled" "$CRF_UPDATES" --arch "nart_${system}_cpu" --eval-bleu \
        --init-from "$run/nart/checkpoint_best.pt" --lr 5e-4 --warmup-updates 50
done
for system in nart crf dcrf; do
    for lengths in 1 9 19; do
        score "$system" "$lengths" test "$text/test2016.raw.en"
    done
done
