# WMT16 English-Romanian, or the other direction (610,000 pairs): `_wmt16` models, 6+6 layers, width 512,
# feed-forward 512, 8 heads, warm-up 16,000, as in Gu et al. 2018 (arXiv 1711.02281).
#
# The numbers of updates and of GPUs of that paper are not known to us: an update here has eight of its batches.
#
#   WMT16     folder with train, valid (newsdev2016), test (newstest2016) as .en and .ro (or .gz): cased text,
#             not tokenised. `sacrebleu -t wmt16 -l en-ro --echo src` prints the test set, wmt16/dev the
#             validation set; train is Europarl v8 and SETIMES2.
#   SRC       en (default) or ro: the direction
#   DIACRITICS  of all Romanian text: keep (default), normalise (s and t with a comma below, because texts mix it
#             with a cedilla) or remove. Papers differ, and their BLEU without diacritics is much higher; none
#             of the three can be compared with another.
#   TEACHER_UPDATES  of every autoregressive model (default: 100,000)
#   FIRST_UPDATES    of NART, and of NAT with fertilities (default: 200,000)
#   SECOND_UPDATES   of each student, from NART, and of fine-tuning (default: 50,000)
text_in WMT16
direction en ro
DIACRITICS="${DIACRITICS:-keep}"
case "$DIACRITICS" in
    keep | normalise | remove) ;;
    *) refuse "DIACRITICS=$DIACRITICS: it must be keep, normalise or remove" ;;
esac
run="${NART_RUNS:-runs}/wmt16_${src}_$tgt"
tests=(test) pieces=(--pieces 32000 --romanian "$DIACRITICS")
size=wmt16 averaged=5 saving=(--save-interval-updates 1000 --keep-interval-updates 1)
max_tokens=2048 tokens_per_update=16384
beam=4 lenpen=0.6
teacher_tokens="$tokens_per_update" teacher_options=()
TEACHER_UPDATES="${TEACHER_UPDATES:-100000}" FIRST_UPDATES="${FIRST_UPDATES:-200000}"
SECOND_UPDATES="${SECOND_UPDATES:-50000}"
stage_updates=("$FIRST_UPDATES" "$SECOND_UPDATES") first_options=() second_options=()
begin

fertility() {  ## the paper's system: NAT with fertilities, then fine-tuned with the teacher
    gu2018 1024 0.1
}

tokenised_bleu() {  ## after evaluate: prints BLEU of Moses' tokens, as in papers of the time
    moses_bleu
}
