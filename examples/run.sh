#!/usr/bin/env bash
# A whole recipe, from text to BLEU: examples/run.sh multi30k_de_en
# Run it again after any interruption: it goes on where it stopped.
set -e
here="$(dirname "$0")"
if [ ! -e "$here/${1:-}/prepare.sh" ]; then
    recipes=("$here"/*/prepare.sh)
    recipes=("${recipes[@]%/prepare.sh}")
    echo "${1:+there is no recipe $1: }name one of ${recipes[*]##*/}" >&2
    exit 1
fi
for step in prepare teacher distill students evaluate; do
    "$here/$1/$step.sh"
done
