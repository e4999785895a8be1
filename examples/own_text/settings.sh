# Your own parallel text, of any two languages.
#
#   TEXT      folder with train, valid and test, each as .SRC and .TGT (or .gz): raw text, a sentence a line
#   SRC, TGT  the endings of its files, such as de and en
#   SIZE      of the models: cpu (default: 4+4 layers, width 256), small, base; see README
#   PIECES    in the joint vocabulary (default: 8,000; 32,000 for millions of pairs)
#   TOKENIZE  sacreBLEU's name for BLEU's tokens (default: 13a, which needs spaces; zh, ja-mecab, char, ...)
#   TOKENS    of an update, padding counted (default: 4,096; tens of thousands on GPUs)
#   TEACHER_UPDATES  of the autoregressive teacher; with valid no longer improving there are enough
#   N         updates of every student: N/2 as NART, then N/2 as itself, to a learning rate of 0
source "$(dirname "${BASH_SOURCE[0]}")/../inputs.sh" TEXT
: "${SRC:?set it to the ending of the sources, such as de}" "${TGT:?set it to the ending of the targets}"
[ "$SRC" != "$TGT" ] || refuse "SRC and TGT are both $SRC: they must be two endings"
case "$SRC$TGT" in
    */*) refuse "SRC=$SRC TGT=$TGT: an ending must not contain a slash" ;;
esac
src="$SRC" tgt="$TGT" run="${NART_RUNS:-runs}/own_text" PIECES="${PIECES:-8000}"
max_tokens=4096 tokens_per_update="${TOKENS:-4096}" teacher_tokens="${TOKENS:-4096}" teacher_options=()
size="${SIZE:-cpu}" averaged=1 beam=4 lenpen=1 tokenize="${TOKENIZE:-13a}"
TEACHER_UPDATES="${TEACHER_UPDATES:-2000}" N="${N:-3000}"
saving=(--save-interval-updates 1000 --keep-interval-updates 1) first_options=(--warmup-updates 200)
second_options=(--lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 50)
second_options+=(--total-num-update $((N / 2)))
source examples/recipe.sh
