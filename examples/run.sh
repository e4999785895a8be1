#!/usr/bin/env bash
# Runs a recipe, from text to BLEU, or some of its steps in the given order:
#
#   examples/run.sh RECIPE [STEP ...]
#   examples/run.sh RECIPE --help
#
# After an interruption, run the same command again: it continues where it stopped.
set -euo pipefail
here="$(dirname "$(realpath "$0")")"
recipe="${1:-}"
file="$here/recipes/$recipe.sh"
if [ ! -e "$file" ]; then
    recipes=("$here"/recipes/*.sh)
    recipes=("${recipes[@]##*/}")
    case "$recipe" in
        -h | --help) sed '1d; /^#/!Q; s/^# \?//' "$0"; echo; echo "Recipes: ${recipes[*]%.sh}"; exit ;;
    esac
    echo "${recipe:+there is no recipe $recipe: }choose one of ${recipes[*]%.sh}" >&2
    exit 1
fi
steps=("${@:2}")
if [ $# = 1 ]; then steps=(prepare teacher distill students evaluate); fi

# Steps are the functions with a ## comment.
known="$(sed -n 's/^\(\w*\)() {  ## /  \1\t/p' "$here/recipe.sh" "$file" | expand -t 18)"
for step in "${steps[@]}"; do
    case "$step" in
        -h | --help)
            sed '/^#/!Q; s/^# \?//' "$file"
            echo
            echo "Steps; without a STEP, the first five are run:"
            echo "$known"
            exit
            ;;
    esac
    if [[ $'\n'"$known" != *$'\n'"  $step "* ]]; then
        echo "$recipe has no step $step; its steps are:" >&2
        echo "$known" >&2
        exit 1
    fi
done

source "$here/inputs.sh"
source "$here/recipe.sh"
source "$file"
for step in "${steps[@]}"; do "$step"; done
