# WMT14 English-German (4.5 million pairs): `_base` models, 6+6 layers, width 512, as in the paper.
#
#   WMT14     folder with train, valid (newstest2013), test (newstest2014) as .en and .de (or .gz):
#             cased text, not tokenised. `sacrebleu -t wmt14/full -l en-de --echo src` prints the test
#             set, wmt13 the validation set; train is Europarl v7, Common Crawl, News Commentary v9.
source "$(dirname "${BASH_SOURCE[0]}")/../inputs.sh" WMT14
src=en tgt=de
run="${NART_RUNS:-runs}/wmt14_en_de"
size=base averaged=5 saving=(--save-interval-updates 1000 --keep-interval-updates 1)
first_options=() second_options=()
max_tokens=8192 tokens_per_update=65536
beam=4 lenpen=0.6
teacher_tokens=32768 teacher_options=()
TEACHER_UPDATES="${TEACHER_UPDATES:-100000}" FIRST_UPDATES="${FIRST_UPDATES:-300000}"
SECOND_UPDATES="${SECOND_UPDATES:-100000}"
source examples/recipe.sh
