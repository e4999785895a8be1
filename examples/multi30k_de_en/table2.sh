#!/usr/bin/env bash
# Every row of every system, from text to one table with its page: most of a day on two cores.
# Run it again after any interruption: it goes on where it stopped.
set -e
[ "${SRC:-de}" = de ] || { echo "bench.toml, of the last step, is German-English: leave SRC out" >&2; exit 1; }
here="$(dirname "$0")"
"$here/../run.sh" multi30k_de_en
for step in teachers peer sweep ctc fertility refinement bench; do
    "$here/$step.sh"
done
