# IWSLT14 German-English (160,239 pairs): `_small` models, 5+5 layers, width 256, as in the paper.
#
#   IWSLT14   folder with train, valid, test as .de and .en (or .gz): tokenised and lower-cased, not
#             yet in subwords, as fairseq's prepare-iwslt14.sh leaves them in its folder tmp/
source "$(dirname "${BASH_SOURCE[0]}")/../inputs.sh" IWSLT14
src=de tgt=en
run="${NART_RUNS:-runs}/iwslt14_de_en"
size=small averaged=5 saving=(--save-interval-updates 1000 --keep-interval-updates 1)
first_options=() second_options=()
max_tokens=4096 tokens_per_update=32768
tokenize=none  # the text is tokenised
beam=5 lenpen=1
teacher_tokens=4096 teacher_options=(--weight-decay 1e-4)  # as in fairseq's own recipe
TEACHER_UPDATES="${TEACHER_UPDATES:-50000}" FIRST_UPDATES="${FIRST_UPDATES:-100000}"
SECOND_UPDATES="${SECOND_UPDATES:-30000}"
source examples/recipe.sh
