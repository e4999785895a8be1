# What all recipes share. Their settings.sh sources it last, after inputs.sh, when it has set
# run, src, tgt, size (of the architectures), max_tokens (most in a batch, padding counted),
# tokens_per_update (of all GPUs together), averaged (checkpoints), beam, lenpen, the teachers'
# TEACHER_UPDATES, teacher_tokens (per update) and teacher_options, and the options saving (of
# checkpoints), first_options, second_options (of the students' two stages); tokenize may be sacreBLEU's
# name for the tokens of BLEU; where it is not one that cuts at spaces, the loss chooses checkpoints.
#
# Everything is kept in $run, which one script at a time may use. A step that has ended well leaves a
# mark in $run/done and is not done again; a training that was cut goes on from its last checkpoint. To
# do a step again, delete its mark and output. $run/settings holds what all steps must share.
#
# From outside: GPUS (default: as many as torch sees; 0 is the CPU), SEED (default: 1), SYSTEMS, the
# students (default: nart nart_crf nart_dcrf), and PRECISION of the trainings (default: --bf16; empty is
# float32).
for folder in "$raw" "${TEACHER:-$raw}"; do
    case "$(realpath -m -- "$folder")/" in
        "$(realpath -m -- "$run")"/*) refuse "$folder lies in $run, where the recipe writes and deletes:" \
            "move it elsewhere, or give another NART_RUNS" ;;
    esac
done
mkdir -p "$run"
exec {lock}< "$run"  # programs inherit it: a training that has lost its script still holds it
# 75 is another's lock; any other failure is a network file system that cannot lock a folder.
flock -n -E 75 "$lock" || [ $? != 75 ] ||
    refuse "another recipe uses $run: wait until it has ended, or give another NART_RUNS"

GPUS="${GPUS:-$(python -c 'import torch; print(torch.cuda.device_count())')}"
SEED="${SEED:-1}" PRECISION="${PRECISION---bf16}"
bleu_options=(--tokenize "${tokenize:=13a}")
if [ "$tokenize" = none ]; then bleu_options+=(--force); fi  # tokens are what is meant
case "$tokenize" in
    13a | intl | none) choosing=(--eval-bleu) ;;
    *) choosing=() ;;  # --eval-bleu would count whole sentences as words
esac
if [ "$GPUS" = 0 ]; then export CUDA_VISIBLE_DEVICES=""; fi
text="$run/text" data="$run/data" distilled="$run/distilled" teacher="$run/teacher.pt"
part=""  # what is being written
trap 'if [ -n "$part" ]; then rm -f "$part"; fi' EXIT

if [ ! -e "$run/done" ]; then
    [ -e "$run/settings" ] || [ -z "$(ls -A "$run")" ] ||
        refuse "$run holds files that no recipe wrote: move them, or give another NART_RUNS"
    [ -d "$raw" ] || refuse "$raw, which should hold the text, is not a folder"
    python - "$tokenize" << 'END'
import sys
try:
    from sacrebleu.metrics.bleu import BLEU
except ImportError as error:
    sys.exit(f"python cannot import {error.name}: activate the environment of fairseq-nart")
name = sys.argv[1]
if name not in BLEU.TOKENIZERS:
    sys.exit(f"TOKENIZE={name}: it must be one of {', '.join(BLEU.TOKENIZERS)}")
try:
    BLEU(tokenize=name)
except Exception as error:
    sys.exit(f"TOKENIZE={name}: {' '.join(str(error).split())}")
END
    for name in TEXT MULTI30K IWSLT14 WMT14 TEACHER src tgt size N TEACHER_UPDATES FIRST_UPDATES \
        SECOND_UPDATES PIECES TOKENS TOKENIZE SEED PRECISION; do
        echo "$name=${!name:-}"
    done > "$run/settings"
elif [ -e "$run/settings" ]; then  # not of a run from before there was such a file
    while IFS== read -r name was; do
        case "$name" in  # older runs have paths as they were given, then relative to the checkout
            TEXT | MULTI30K | IWSLT14 | WMT14 | TEACHER) was="${was:+$(realpath -ms -- "$was")}" ;;
        esac
        if [ "${!name:-}" = "$was" ]; then continue; fi
        refuse "$run was begun with $name=${was:-(nothing)}, and now $name is ${!name:-not set}: go on with" \
            "what it was begun with, give another NART_RUNS, or delete it"
    done < "$run/settings"
fi

once() {  # once NAME COMMAND...: runs COMMAND unless it has ended well before
    local mark="$run/done/$1"
    shift
    if [ -e "$mark" ]; then return; fi
    echo "== ${mark##*/}: $*" >&2
    "$@"
    mkdir -p "${mark%/*}"
    touch "$mark"
}

anew() {  # anew PATH COMMAND...: once what a cut call has left at PATH is removed
    rm -rf "$1"
    "${@:2}"
}

share() {  # what each GPU does of an update, so that any number of them computes tokens_per_update
    local gpus=$((GPUS > 0 ? GPUS : 1))
    local tokens=$((tokens_per_update / gpus))
    local batches=$(((tokens + max_tokens - 1) / max_tokens))
    echo --distributed-world-size "$gpus" --max-tokens $((tokens / batches)) --update-freq "$batches" \
        --max-tokens-valid "$max_tokens"
}

binarise() {  # binarise OPTIONS...: $text, in pieces, to $data; every split test* becomes test, test1, ...
    local tests=("$text"/test*.raw."$src")
    tests=("${tests[@]%".raw.$src"}")
    once binarise anew "$data" fairseq-preprocess --destdir "$data" -s "$src" -t "$tgt" \
        --joined-dictionary --trainpref "$text/train" --validpref "$text/valid" \
        --testpref "$(IFS=,; echo "${tests[*]}")" "$@"
}

train() {  # train NAME DATA UPDATES OPTIONS...: fairseq-train into $run/NAME
    local name="$1" from="$2" updates="$3"
    shift 3
    once "$name.$updates" fairseq-train "$from" --source-lang "$src" --target-lang "$tgt" \
        --user-dir fairseq_nart --save-dir "$run/$name" $(share) --max-update "$updates" \
        $PRECISION --seed "$SEED" --no-epoch-checkpoints --keep-best-checkpoints 5 \
        --log-interval 50 "${saving[@]}" "$@"
}

average() {  # average NAME OUT: the mean of the checkpoints of NAME that are best on valid, fewer where
    # fairseq has kept fewer: while there are not enough it keeps none that is worse than all before
    local kept=("$run/$1"/checkpoint.best_*.pt)
    local most=$((${#kept[@]} < averaged ? ${#kept[@]} : averaged))
    once "${2##*/}" fairseq-nart average "$run/$1" --best "$most" --out "$2"
}

teach() {  # teach NAME SYSTEM DATA: the autoregressive SYSTEM from DATA to $run/NAME.pt
    tokens_per_update="$teacher_tokens" train "$1" "$3" "$TEACHER_UPDATES" --arch "$2_$size" \
        "${teacher_options[@]}"
    average "$1" "$run/$1.pt"
}

teachers() {  # the other autoregressive rows, all trained as the teacher is
    local system
    for system in lstm conv deep; do
        teach "teacher_$system" "nart_teacher_$system" "$data"
    done
    # The fast baseline too gets what students learn from (arXiv 2006.10369).
    teach teacher_deep_distilled nart_teacher_deep "$distilled"
}

distill() {  # $data with the teacher's translation of train becomes $distilled; valid and test stay
    once distill fairseq-nart distill "$data" --path "$teacher" --out "$distilled" \
        --beam "$beam" --lenpen "$lenpen"
}

students() {  # students FIRST SECOND: NART from the teacher; from there all of SYSTEMS
    local system
    first_stage nart "$1"
    for system in "${systems[@]}"; do
        second_stage "$system" "$system" "$2" nart.first
    done
}

first_stage() {  # first_stage SYSTEM UPDATES: SYSTEM.first, from the teacher's weights
    train "$1.first" "$distilled" "$2" --arch "$1_$size" "${choosing[@]}" --init-from "$teacher" \
        "${first_options[@]}"
    average "$1.first" "$run/$1.first.pt"
}

second_stage() {  # second_stage NAME SYSTEM UPDATES FROM
    train "$1" "$distilled" "$3" --arch "$2_$size" "${choosing[@]}" --init-from "$run/$4.pt" \
        "${second_options[@]}"
    average "$1" "$run/$1.pt"
}

generate() {  # generate CHECKPOINT SUBSET OPTIONS...: fairseq-generate's log
    fairseq-generate "$data" --source-lang "$src" --target-lang "$tgt" --user-dir fairseq_nart \
        --path "$1" --gen-subset "$2" --remove-bpe sentencepiece --num-workers 0 "${@:3}"
}

sentences() {  # sentences SUBSET: how many valid has, or a test, which `binarise` has numbered
    local files=("$text/$1.raw.$src") number=0
    if [[ "$1" = test* ]]; then
        files=("$text"/test*.raw."$src")
        number="${1#test}"
    fi
    wc -l < "${files[${number:-0}]}"
}

translate() {  # translate CHECKPOINT SUBSET OUT OPTIONS...: plain text, a line per sentence
    local checkpoint="$1" subset="$2" out="$3" count
    shift 3
    count="$(sentences "$subset")"
    if [ -e "$out" ] && [ "$(wc -l < "$out")" = "$count" ]; then return; fi
    mkdir -p "$(dirname "$out")"
    generate "$checkpoint" "$subset" "$@" > "$out.log"
    part="$out.part"
    # -a: for grep, a log with a NUL byte is not text
    LC_ALL=C grep -a ^H- "$out.log" | sed 's/^H-//' | LC_ALL=C sort -n | cut -f3 > "$part"
    [ "$(wc -l < "$part")" = "$count" ] || refuse "$out.log does not hold a translation of each of the" \
        "$count sentences of $subset"
    mv "$part" "$out"
}

tune() {  # tune NAME OPTIONS...: sets rule to how the teacher best ranks, on valid, what NAME decodes
    # with OPTIONS
    local found="$run/tune/$1"
    if ! grep -qs ^best: "$found"; then
        mkdir -p "$run/tune"
        generate "$run/$1.pt" valid --rescore-with "$teacher" --nbest 1000 "${@:2}" > "$found.log"
        part="$found.part"
        fairseq-nart tune "$found.log" --references "$text/valid.raw.$tgt" --tokenize "$tokenize" > "$part"
        mv "$part" "$found"
    fi
    read -ra rule <<< "$(sed -n 's/^best: \(.*\) (.*/\1/p' "$found")"
    rule+=(--rescore-with "$teacher")
}

translate_lengths() {  # translate_lengths NAME SUBSET OUT: with 1, 9 and 19 lengths, and where there is a
    # CRF with the 4 best paths of 5
    local lengths
    translate "$run/$1.pt" "$2" "$3/$1.1"
    tune "$1" --length-candidates 19
    for lengths in 9 19; do
        translate "$run/$1.pt" "$2" "$3/$1.$lengths" --length-candidates "$lengths" "${rule[@]}"
    done
    if [[ "$1" = *crf* ]]; then
        translate "$run/$1.pt" "$2" "$3/$1.5x4" --length-candidates 5 --crf-paths 4 "${rule[@]}"
    fi
}

students_of() {  # students_of OUT LENGTHS: sets students to what SYSTEMS have so in OUT
    local system
    students=()
    for system in "${systems[@]}"; do
        if [ -e "$1/$system.$2" ]; then students+=("$1/$system.$2"); fi
    done
}

translate_teachers() {  # translate_teachers SUBSET OUT: what `teachers` trained
    local system
    for system in lstm conv deep deep_distilled; do
        translate "$run/teacher_$system.pt" "$1" "$2/teacher_$system" --beam "$beam" \
            --lenpen "$lenpen"
    done
}

translate_all() {  # translate_all SUBSET OUT: the teacher and every student
    local system
    translate "$teacher" "$1" "$2/teacher" --beam "$beam" --lenpen "$lenpen"
    for system in "${systems[@]}"; do
        translate_lengths "$system" "$1" "$2"
    done
}

bleu() {  # bleu SET OUT...: against $text/SET.raw.$tgt; of no OUT none
    if [ $# = 1 ]; then return; fi
    sacrebleu -w 2 "$text/$1.raw.$tgt" "${bleu_options[@]}" -i "${@:2}"
}

compare() (  # compare SET OUT...: BLEU; of several, with paired bootstrap against the first
    if [ $# -gt 2 ]; then bleu_options+=(--paired-bs); fi
    bleu "$@"
)
