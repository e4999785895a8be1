#!/usr/bin/env bash
# Quality and speed of every row that is trained: a table, figures and a page.
source "$(dirname "$0")/settings.sh"
[ "$src" = de ] || refuse "bench.toml names the rows of German-English: write one of your own"
here="examples/multi30k_de_en"
fairseq-nart bench "$here/bench.toml" --root "$run" --out "$run/bench" --skip-missing
fairseq-nart report "$run/bench" --out "$run/report" --published sun2019 \
    --baseline "Transformer, beam $beam" --teacher "Transformer, beam $beam"
