# Multi30k (29,000 pairs) on a laptop's CPU: `_cpu` models, 4+4 layers, width 256.
#
#   MULTI30K  folder with train, valid, test2016, test2017 as .de.gz and .en.gz
#   SRC       de (default) or en: the direction
#   TEACHER   optional folder with a trained teacher of that direction: teacher.pt, dict.txt,
#             sentencepiece.model and, if there, its translation of train, train.distilled.sp.TGT.gz
#   TEACHER_UPDATES  updates of every autoregressive model trained here
#   N         updates of every student, to a learning rate of 0: N/2 as NART, then N/2 as itself; those
#             that are no NART as themselves
source "$(dirname "${BASH_SOURCE[0]}")/../inputs.sh" MULTI30K
src="${SRC:-de}"
case "$src" in
    de) tgt=en ;;
    en) tgt=de ;;
    *) refuse "SRC=$src: it must be de or en" ;;
esac
run="${NART_RUNS:-runs}/multi30k_${src}_$tgt"
max_tokens=4096 tokens_per_update=4096  # about 3,200 target tokens without padding
beam=4 lenpen=1
TEACHER="${TEACHER:-}" TEACHER_UPDATES="${TEACHER_UPDATES:-2080}" N="${N:-3000}"
teacher_tokens="$tokens_per_update" teacher_options=()
size=cpu averaged=1 saving=() first_options=(--warmup-updates 200)
second_options=(--lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 50)
second_options+=(--total-num-update $((N / 2)))
source examples/recipe.sh
if [ -n "$TEACHER" ] && [ ! -e "$run/done/teacher" ]; then
    for name in teacher.pt dict.txt sentencepiece.model; do
        [ -e "$TEACHER/$name" ] || refuse "TEACHER=$TEACHER holds no $name"
    done
fi

alone() {  # alone SYSTEM OPTIONS...: all N updates as itself, from the teacher's weights
    train "$1" "$distilled" "$N" --arch "$1_$size" --eval-bleu --init-from "$teacher" \
        "${second_options[@]}" --lr 7e-4 --warmup-updates 200 --total-num-update "$N" "${@:2}"
    average "$1" "$run/$1.pt"
}
