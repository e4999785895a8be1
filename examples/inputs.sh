# Checks the variables of a recipe before it does anything, and changes to the root of the checkout.
# Relative paths start at the folder where run.sh was called.
refuse() {  # refuse WORD...: exits with this message
    echo "$*" >&2
    exit 1
}

text_in() {  # text_in VARIABLE: sets raw to the folder with the text, the value of VARIABLE
    raw="${!1:-}"
    [ -n "$raw" ] || refuse "set $1 to the folder with the text: examples/run.sh $recipe --help describes it"
}

direction() {  # direction SRC TGT: sets src and tgt to this direction, or to the other if SRC is TGT
    src="${SRC:-$1}"
    case "$src" in
        "$1") tgt="$2" ;;
        "$2") tgt="$1" ;;
        *) refuse "SRC=$src: it must be $1 or $2" ;;
    esac
}

for name in TEXT MULTI30K IWSLT14 WMT14 IWSLT16 WMT16 TEACHER NART_RUNS; do
    if [ -n "${!name:-}" ]; then printf -v "$name" %s "$(realpath -ms -- "${!name}")"; fi
done
CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${NART_RUNS:-}" in  # fairseq splits data paths at colons and text paths at commas
    *[:,]*) refuse "NART_RUNS=$NART_RUNS: fairseq cannot read a path with a colon or comma: give another folder" ;;
esac

for name in N PIECES TOKENS TEACHER_UPDATES FIRST_UPDATES SECOND_UPDATES; do
    [[ "${!name:-1}" =~ ^[1-9][0-9]*$ ]] || refuse "$name=${!name}: it must be a whole number, at least 1"
done
for name in GPUS SEED OTHER_SEED; do
    [[ "${!name:-0}" =~ ^(0|[1-9][0-9]*)$ ]] || refuse "$name=${!name}: it must be a whole number, at least 0"
done
[ "${N:-2}" -ge 2 ] || refuse "N=$N: it must be at least 2, because each of two stages gets half"
case "${PRECISION-}" in
    "" | --bf16 | --fp16) ;;
    *) refuse "PRECISION=$PRECISION: it must be --bf16, --fp16 or empty, which is float32" ;;
esac
case "${SIZE:-cpu}" in
    tiny | cpu | small | base | iwslt16 | wmt16) ;;
    *) refuse "SIZE=$SIZE: it must be tiny, cpu, small, base, iwslt16 or wmt16" ;;
esac
read -ra systems <<< "${SYSTEMS:-nart nart_crf nart_dcrf}"
for system in "${systems[@]}"; do
    case "$system" in
        nart | nart_crf | nart_dcrf | nart_refinement | nart_cmlm | nart_reg) ;;
        *) refuse "SYSTEMS: $system is not a system that starts from NART: choose from nart, nart_crf," \
            "nart_dcrf, nart_refinement, nart_cmlm and nart_reg" ;;
    esac
done

if ! command -v fairseq-nart > /dev/null; then export PATH="$PWD/.venv/bin:$PATH"; fi
for name in fairseq-nart fairseq-preprocess fairseq-train fairseq-generate sacrebleu python flock; do
    command -v "$name" > /dev/null || refuse "$name is not installed: see README.md for the installation," \
        "and activate the environment that holds it"
done
for step in "${steps[@]}"; do
    if [ "$step" != tokenised_bleu ] || command -v sacremoses > /dev/null; then continue; fi
    refuse "sacremoses is not installed: pip install sacremoses"
done
