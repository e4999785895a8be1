# WMT14 English-German, or the other direction (4.5 million pairs): `_base` models, 6+6 layers, width 512, as in the paper.
#
#   WMT14     folder with train, valid (newstest2013), test (newstest2014) as .en and .de (or .gz):
#             cased text, not tokenised. `sacrebleu -t wmt14/full -l en-de --echo src` prints the test
#             set, wmt13 the validation set; train is Europarl v7, Common Crawl, News Commentary v9.
#   SRC       en (default) or de: the direction
#   TEACHER_UPDATES  of every autoregressive model (default: 100,000)
#   FIRST_UPDATES    of NART (default: 300,000)
#   SECOND_UPDATES   of each student, from NART (default: 100,000)
text_in WMT14
direction en de
run="${NART_RUNS:-runs}/wmt14_${src}_$tgt"
tests=(test) pieces=(--pieces 32000)
size=base averaged=5 saving=(--save-interval-updates 1000 --keep-interval-updates 1)
max_tokens=8192 tokens_per_update=65536
beam=4 lenpen=0.6
teacher_tokens=32768 teacher_options=()
TEACHER_UPDATES="${TEACHER_UPDATES:-100000}" FIRST_UPDATES="${FIRST_UPDATES:-300000}"
SECOND_UPDATES="${SECOND_UPDATES:-100000}"
stage_updates=("$FIRST_UPDATES" "$SECOND_UPDATES") first_options=() second_options=()
begin

tokenised_bleu() {  ## after evaluate: prints BLEU of Moses' tokens, as in papers of the time
    moses_bleu
}
