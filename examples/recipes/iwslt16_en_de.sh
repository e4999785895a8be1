# IWSLT16 English-German, or the other direction (about 195,000 pairs): `_iwslt16` models, 5+5 layers, width 278,
# feed-forward 507, 2 heads, dropout 0.079, warm-up 746, as in Gu et al. 2018 (arXiv 1711.02281).
#
# The number of updates of that paper is not known to us.
#
#   IWSLT16   folder with train, valid, test as .en and .de (or .gz): cased text, not tokenised
#   SRC       en (default) or de: the direction
#   TEACHER_UPDATES  of every autoregressive model (default: 50,000)
#   FIRST_UPDATES    of NART, and of NAT with fertilities (default: 100,000)
#   SECOND_UPDATES   of each student, from NART, and of fine-tuning (default: 30,000)
text_in IWSLT16
direction en de
run="${NART_RUNS:-runs}/iwslt16_${src}_$tgt"
tests=(test) pieces=(--pieces 16000)
size=iwslt16 averaged=5 saving=(--save-interval-updates 1000 --keep-interval-updates 1)
max_tokens=2048 tokens_per_update=2048
beam=4 lenpen=1
teacher_tokens="$tokens_per_update" teacher_options=()
TEACHER_UPDATES="${TEACHER_UPDATES:-50000}" FIRST_UPDATES="${FIRST_UPDATES:-100000}"
SECOND_UPDATES="${SECOND_UPDATES:-30000}"
stage_updates=("$FIRST_UPDATES" "$SECOND_UPDATES")
first_options=(--dropout 0.079) second_options=(--dropout 0.079)
begin

fertility() {  ## the paper's system: NAT with fertilities, then fine-tuned with the teacher
    gu2018 1600 0.25
}

tokenised_bleu() {  ## after evaluate: prints BLEU of Moses' tokens, as in papers of the time
    moses_bleu
}
