#!/usr/bin/env bash
# A whole recipe, from text to BLEU: examples/run.sh multi30k_de_en
# Run it again after any interruption: it goes on where it stopped.
set -e
for step in prepare teacher distill students evaluate; do
    "$(dirname "$0")/${1:?name a recipe: multi30k_de_en, iwslt14_de_en or wmt14_en_de}/$step.sh"
done
