# IWSLT14 German-English (160,239 pairs): `_small` models, 5+5 layers, width 256, as in the paper.
#
#   IWSLT14   folder with train, valid, test as .de and .en (or .gz): tokenised and lower-cased, not
#             yet in subwords, as in the folder tmp/ of fairseq's prepare-iwslt14.sh
#   TEACHER_UPDATES  of every autoregressive model (default: 50,000)
#   FIRST_UPDATES    of NART (default: 100,000)
#   SECOND_UPDATES   of each student, from NART (default: 30,000)
text_in IWSLT14
src=de tgt=en
run="${NART_RUNS:-runs}/iwslt14_de_en"
tests=(test) pieces=(--pieces 10000)
size=small averaged=5 saving=(--save-interval-updates 1000 --keep-interval-updates 1)
max_tokens=4096 tokens_per_update=32768
tokenize=none  # BLEU of tokens, lower-cased, as papers report for IWSLT14
beam=5 lenpen=1
teacher_tokens=4096 teacher_options=(--weight-decay 1e-4)  # as in fairseq's own recipe
TEACHER_UPDATES="${TEACHER_UPDATES:-50000}" FIRST_UPDATES="${FIRST_UPDATES:-100000}"
SECOND_UPDATES="${SECOND_UPDATES:-30000}"
stage_updates=("$FIRST_UPDATES" "$SECOND_UPDATES") first_options=() second_options=()
begin
