# The steps of all recipes, which have a ## comment, and the functions that they call.
#
# run.sh sources inputs.sh, this file and recipes/RECIPE.sh, and then calls the steps. A recipe calls `text_in`,
# sets the variables below and calls `begin`. It may add steps and replace those of this file.
#
#   run, src, tgt      folder of the output; source and target language
#   tests              names of the test sets
#   pieces             options of segment.py
#   dictionary         options of fairseq-preprocess (default: none)
#   size               of the architectures, as in their names
#   max_tokens         the most tokens in a batch, padding included
#   tokens_per_update  of all GPUs together; teachers have teacher_tokens
#   TEACHER_UPDATES    of every autoregressive model
#   stage_updates      of the students' two stages
#   saving, teacher_options, first_options, second_options
#                      options of fairseq-train: of all trainings, the teachers, the students' two stages
#   alone_updates, alone_options
#                      updates (default: those of the first stage) and options of a system with one stage
#   averaged           number of checkpoints
#   sets               the evaluated sets and their names in $data (default: test:test)
#   beam, lenpen       of the teachers
#   tokenize           sacreBLEU's tokenizer (default: 13a); if it does not split at spaces, the loss
#                      chooses checkpoints
#
# Everything is kept in $run, which one recipe at a time may use. A finished step leaves a mark in $run/done
# and is skipped the next time; an interrupted training continues from its last checkpoint. To repeat a step,
# delete its mark and its output. $run/settings holds the settings that all steps must share.
#
# The user may set GPUS (default: as many as torch sees; 0 is the CPU), SEED (default: 1), SYSTEMS, the
# students (default: nart nart_crf nart_dcrf), and PRECISION of the training (default: --bf16; empty is
# float32).
dictionary=() alone_options=() sets=(test:test)

prepare() {  ## cuts the text into subwords and converts it to fairseq's binary format
    local name prefixes=""
    for name in "${tests[@]}"; do prefixes+="$text/$name,"; done  # in $data: test, test1, ...
    once segment python examples/segment.py "$raw" "$text" --languages "$src" "$tgt" \
        --splits train valid "${tests[@]}" "${pieces[@]}"
    once binarise anew "$data" fairseq-preprocess --destdir "$data" -s "$src" -t "$tgt" \
        --joined-dictionary --trainpref "$text/train" --validpref "$text/valid" \
        --testpref "${prefixes%,}" "${dictionary[@]}"
}

teacher() {  ## trains the teacher, an autoregressive Transformer that also ranks the students' candidates
    teach teacher nart_teacher "$data"
}

distill() {  ## translates the training set with the teacher; students learn from the result
    once distill fairseq-nart distill "$data" --path "$teacher" --out "$distilled" \
        --beam "$beam" --lenpen "$lenpen"
}

students() {  ## trains NART from the teacher, then each of SYSTEMS from NART
    local system
    train nart.first "$distilled" "${stage_updates[0]}" --arch "nart_$size" "${choosing[@]}" \
        --init-from "$teacher" "${first_options[@]}"
    average nart.first "$nart"
    for system in "${systems[@]}"; do
        second_stage "$system" "$system"
    done
}

evaluate() {  ## translates with the teacher and the students, and prints BLEU
    local lengths
    translate_all test "$run/out"
    bleu test "$run/out/teacher"
    for lengths in 1 9 19 5x4; do
        students_of "$run/out" "$lengths"
        bleu test "${students[@]}"
    done
}

teachers() {  ## after distill: trains LSTM, ConvS2S and Transformers with one decoder layer; prints BLEU
    train_teachers
    translate_teachers test "$run/out"
    bleu test "$run/out"/teacher_{lstm,conv,deep,deep_distilled}
}

# The second stage has N/2 updates, which take twice as long, the third N/6.
one_pass() {  ## CTC from the translations of the teacher and an LSTM together, in three stages: the best single pass
    local distilled updates="${alone_updates:-${stage_updates[0]}}" name=nart_ctc.ensemble
    [ "$updates" -ge 6 ] || refuse "one_pass needs at least 6 updates, not $updates: its last stage has a sixth"
    ensemble
    alone "$name" --ctc-split 2
    further "$name.cr" $((updates / 2)) --ctc-split 2 --consistency-weight 0.5 --lr 5e-4
    further "$name.cr.nmla" $((updates / 6)) --ctc-split 2 --ctc-loss nmla
    evaluate_length "$name.cr.nmla"
}

begin() {  # locks $run, checks that it has the same settings as before, and sets what depends on them
    local folder name was
    for folder in "$raw" "${TEACHER:-$raw}"; do
        case "$(realpath -m -- "$folder")/" in
            "$(realpath -m -- "$run")"/*) refuse "$folder lies in $run, where the recipe writes and deletes:" \
                "move it elsewhere, or give another NART_RUNS" ;;
        esac
    done
    mkdir -p "$run"
    exec {lock}< "$run"  # programs inherit the lock: a training that outlives its script still holds it
    # 75: another recipe has the lock. Any other failure: a network file system that cannot lock a folder.
    flock -n -E 75 "$lock" || [ $? != 75 ] ||
        refuse "another recipe uses $run: wait until it has ended, or give another NART_RUNS"

    GPUS="${GPUS:-$(python -c 'import torch; print(torch.cuda.device_count())')}"
    SEED="${SEED:-1}" PRECISION="${PRECISION---bf16}"
    bleu_options=(--tokenize "${tokenize:=13a}")
    if [ "$tokenize" = none ]; then bleu_options+=(--force); fi  # the text is already tokenized
    case "$tokenize" in
        13a | intl | none) choosing=(--eval-bleu) ;;
        *) choosing=() ;;  # --eval-bleu would count whole sentences as words
    esac
    if [ "$GPUS" = 0 ]; then export CUDA_VISIBLE_DEVICES=""; fi
    text="$run/text" data="$run/data" distilled="$run/distilled" teacher="$run/teacher.pt"
    nart="$run/nart.first.pt"  # from which second stages start
    part=""  # the file that is being written
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
        for name in TEXT MULTI30K IWSLT14 WMT14 IWSLT16 WMT16 TEACHER src tgt size N TEACHER_UPDATES \
            FIRST_UPDATES SECOND_UPDATES PIECES TOKENS TOKENIZE DIACRITICS SEED PRECISION; do
            echo "$name=${!name:-}"
        done > "$run/settings"
    elif [ -e "$run/settings" ]; then  # older runs have no such file
        while IFS== read -r name was; do
            case "$name" in  # older runs hold paths relative to the checkout
                TEXT | MULTI30K | IWSLT14 | WMT14 | IWSLT16 | WMT16 | TEACHER) was="${was:+$(realpath -ms -- "$was")}" ;;
            esac
            if [ "${!name:-}" = "$was" ]; then continue; fi
            refuse "$run was started with $name=${was:-(nothing)}, and now $name is ${!name:-not set}: use" \
                "the same settings, give another NART_RUNS, or delete it"
        done < "$run/settings"
    fi
}

once() {  # once NAME COMMAND...: runs COMMAND unless it has succeeded before
    local mark="$run/done/$1"
    shift
    if [ -e "$mark" ]; then return; fi
    echo "== ${mark##*/}: $*" >&2
    "$@"
    mkdir -p "${mark%/*}"
    touch "$mark"
}

anew() {  # anew PATH COMMAND...: removes what an interrupted call has left at PATH, then runs COMMAND
    rm -rf "$1"
    "${@:2}"
}

share() {  # prints options that make an update tokens_per_update on any number of GPUs
    local gpus=$((GPUS > 0 ? GPUS : 1))
    local tokens=$((tokens_per_update / gpus))
    local batches=$(((tokens + max_tokens - 1) / max_tokens))
    echo --distributed-world-size "$gpus" --max-tokens $((tokens / batches)) --update-freq "$batches" \
        --max-tokens-valid "$max_tokens"
}

train() {  # train NAME DATA UPDATES OPTIONS...: fairseq-train into $run/NAME
    local name="$1" from="$2" updates="$3"
    shift 3
    once "$name.$updates" fairseq-train "$from" --source-lang "$src" --target-lang "$tgt" \
        --user-dir fairseq_nart --save-dir "$run/$name" $(share) --max-update "$updates" \
        $PRECISION --seed "$SEED" --no-epoch-checkpoints --keep-best-checkpoints 5 \
        --log-interval 50 "${saving[@]}" "$@"
}

average() {  # average NAME OUT: the mean of the checkpoints of NAME that are best on valid
    # There may be fewer: at first fairseq keeps a checkpoint only if it is better than all previous ones.
    local kept=("$run/$1"/checkpoint.best_*.pt)
    local most=$((${#kept[@]} < averaged ? ${#kept[@]} : averaged))
    once "${2##*/}" fairseq-nart average "$run/$1" --best "$most" --out "$2"
}

teach() {  # teach NAME SYSTEM DATA OPTIONS...: trains the autoregressive SYSTEM on DATA; writes $run/NAME.pt
    tokens_per_update="$teacher_tokens" train "$1" "$3" "$TEACHER_UPDATES" --arch "$2_$size" \
        "${teacher_options[@]}" "${@:4}"
    average "$1" "$run/$1.pt"
}

alone() {  # alone SYSTEM[.KIND] OPTIONS...: trains SYSTEM in one stage, from the teacher's weights
    local updates="${alone_updates:-${stage_updates[0]}}"
    train "$1" "$distilled" "$updates" --arch "${1%%.*}_$size" "${choosing[@]}" --init-from "$teacher" \
        "${alone_options[@]}" "${@:2}"
    average "$1" "$run/$1.pt"
}

further() {  # further NAME.KIND UPDATES OPTIONS...: trains NAME.KIND, NAME with UPDATES more
    train "$1" "$distilled" "$2" --arch "${1%%.*}_$size" "${choosing[@]}" --init-from "$run/${1%.*}.pt" \
        --lr 3e-4 --lr-scheduler polynomial_decay --warmup-updates $(($2 / 10)) --total-num-update "$2" \
        "${@:3}"
    average "$1" "$run/$1.pt"
}

ensemble() {  # trains an LSTM and sets distilled to the translations of it and the teacher together
    distilled="$run/distilled.ensemble"
    teach teacher_lstm nart_teacher_lstm "$data"
    once distill.ensemble fairseq-nart distill "$data" --path "$teacher:$run/teacher_lstm.pt" \
        --out "$distilled" --beam "$beam" --lenpen auto
}

train_teachers() {  # the other teachers, with the options of the first
    local system
    for system in lstm conv deep; do
        teach "teacher_$system" "nart_teacher_$system" "$data"
    done
    # The fast baseline, too, learns from the distilled text (arXiv 2006.10369).
    teach teacher_deep_distilled nart_teacher_deep "$distilled" "${choosing[@]}"
}

second_stage() {  # second_stage NAME SYSTEM OPTIONS...: trains NAME, SYSTEM from $nart
    train "$1" "$distilled" "${stage_updates[1]}" --arch "$2_$size" "${choosing[@]}" \
        --init-from "$nart" "${second_options[@]}" "${@:3}"
    average "$1" "$run/$1.pt"
}

generate() {  # generate CHECKPOINT SUBSET OPTIONS...: prints fairseq-generate's log
    fairseq-generate "$data" --source-lang "$src" --target-lang "$tgt" --user-dir fairseq_nart \
        --path "$1" --gen-subset "$2" --remove-bpe sentencepiece --num-workers 0 "${@:3}"
}

sentences() {  # sentences SUBSET: prints how many sentences valid, test, test1, ... has
    local name="$1" number="${1#test}"
    if [[ "$1" = test* ]]; then name="${tests[${number:-0}]}"; fi
    wc -l < "$text/$name.raw.$src"
}

translate() {  # translate CHECKPOINT SUBSET OUT OPTIONS...: writes one sentence per line to OUT
    local checkpoint="$1" subset="$2" out="$3" count
    shift 3
    count="$(sentences "$subset")"
    if [ -e "$out" ] && [ "$(wc -l < "$out")" = "$count" ]; then return; fi
    mkdir -p "$(dirname "$out")"
    generate "$checkpoint" "$subset" "$@" > "$out.log"
    part="$out.part"
    # -a: grep regards a log with a NUL byte as binary
    LC_ALL=C grep -a ^H- "$out.log" | sed 's/^H-//' | LC_ALL=C sort -n | cut -f3 > "$part"
    [ "$(wc -l < "$part")" = "$count" ] || refuse "$out.log does not hold a translation of each of the" \
        "$count sentences of $subset"
    mv "$part" "$out"
}

tune() {  # tune OUT NAME OPTIONS...: sets best to the decoding options of NAME that are best on valid
    # together with OPTIONS; keeps the comparison in tune/OUT
    local output="$run/tune/$1"
    if ! grep -qs ^best: "$output"; then
        mkdir -p "$run/tune"
        part="$output.part"
        fairseq-nart tune "$text/valid.raw.$src" --references "$text/valid.raw.$tgt" \
            --tokenize "$tokenize" --path "$run/$2.pt" --data "$data" \
            --sentencepiece "$text/spm.model" "${@:3}" > "$part"
        mv "$part" "$output"
    fi
    read -ra best <<< "$(sed -n 's/^best: \(.*\) (.*/\1/p' "$output")"
}

tune_length() {  # tune_length NAME OPTIONS...: sets length to the best options of length
    tune "$1.length" "$@"
    length=("${best[@]}")
}

tune_rule() {  # tune_rule NAME OPTIONS...: sets rule to the teacher and how it best ranks candidates
    tune "$1" "$1" --rescore-with "$teacher" "${@:2}"
    rule=(--rescore-with "$teacher" "${best[@]}")
}

evaluate_length() {  # evaluate_length NAME: prints BLEU, also with the length tuned on valid
    local set out
    tune_length "$1"
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}/$1"
        translate "$run/$1.pt" "${set#*:}" "$out.1"
        translate "$run/$1.pt" "${set#*:}" "$out.tuned" "${length[@]}"
        bleu "${set%:*}" "$out".{1,tuned}
    done
}

translate_lengths() {  # translate_lengths NAME SUBSET OUT: with 1, 9 and 19 lengths; a CRF also with the
    # 4 best paths of 5 lengths
    local lengths
    translate "$run/$1.pt" "$2" "$3/$1.1"
    tune_rule "$1" --length-candidates 19
    for lengths in 9 19; do
        translate "$run/$1.pt" "$2" "$3/$1.$lengths" --length-candidates "$lengths" "${rule[@]}"
    done
    if [[ "$1" = *crf* ]]; then
        translate "$run/$1.pt" "$2" "$3/$1.5x4" --length-candidates 5 --crf-paths 4 "${rule[@]}"
    fi
}

students_of() {  # students_of OUT LENGTHS: sets students to the files of SYSTEMS in OUT with LENGTHS
    local system
    students=()
    for system in "${systems[@]}"; do
        if [ -e "$1/$system.$2" ]; then students+=("$1/$system.$2"); fi
    done
}

translate_teachers() {  # translate_teachers SUBSET OUT: with what `train_teachers` trained
    local system
    for system in lstm conv deep deep_distilled; do
        translate "$run/teacher_$system.pt" "$1" "$2/teacher_$system" --beam "$beam" \
            --lenpen "$lenpen"
    done
}

translate_all() {  # translate_all SUBSET OUT: with the teacher and every student
    local system
    translate "$teacher" "$1" "$2/teacher" --beam "$beam" --lenpen "$lenpen"
    for system in "${systems[@]}"; do
        translate_lengths "$system" "$1" "$2"
    done
}

bleu() {  # bleu SET OUT...: prints BLEU against $text/SET.raw.$tgt; without an OUT, nothing
    if [ $# = 1 ]; then return; fi
    sacrebleu -w 2 "$text/$1.raw.$tgt" "${bleu_options[@]}" -i "${@:2}"
}

moses_bleu() {  # prints BLEU of Moses' tokens, as in papers of the time; then, as in many of them, for German with
    # compounds split at hyphens and for Romanian without diacritics, both of which raise BLEU
    local bleu_options=(--tokenize none --force) outs=("$run/out/teacher") moses="$run/moses"
    local lengths file also=()
    for lengths in 1 9 19 5x4; do
        students_of "$run/out" "$lengths"
        outs+=("${students[@]}")
    done
    for file in "$run/out"/nart_fertility{,.finetuned}.{average,1,10,100}; do
        if [ -e "$file" ]; then outs+=("$file"); fi
    done
    case "$tgt" in
        de) also=(sed -E 's/(\S)-(\S)/\1 ##AT##-##AT## \2/g') ;;
        ro) also=(python examples/romanian.py remove) ;;
    esac
    mkdir -p "$moses/also"
    for file in "$run/text/test.raw.$tgt" "${outs[@]}"; do
        sacremoses -l "$tgt" -q tokenize < "$file" > "$moses/${file##*/}"
        if [ "${also[*]}" ]; then "${also[@]}" < "$moses/${file##*/}" > "$moses/also/${file##*/}"; fi
    done
    text="$moses" bleu test "${outs[@]/#"$run/out"/"$moses"}"  # `bleu` finds the references in $text
    if [ "${also[*]}" ]; then text="$moses/also" bleu test "${outs[@]/#"$run/out"/"$moses/also"}"; fi
}

choose_aligner() {  # sets aligner to eflomal (pip install eflomal), or without it to the teacher's attention
    aligner=(--teacher "$teacher")
    if python -c 'import eflomal' 2> /dev/null; then aligner=(--eflomal); fi
}

align() {  # adds fertilities to the distilled text; those from eflomal's links are easier to learn from than those
    # of the teacher's attention (docs/results/fertilities.md)
    local aligner
    choose_aligner
    once align fairseq-nart align "$distilled" "${aligner[@]}" --splits train valid
}

gu2018() {  # gu2018 TOKENS WEIGHT: trains NAT with fertilities, fine-tunes it with batches of TOKENS and the
    # teacher's share WEIGHT of the loss, and prints BLEU (arXiv 1711.02281)
    local name samples first="$run/nart_fertility.pt"
    align
    train nart_fertility "$distilled" "${stage_updates[0]}" --arch "nart_fertility_$size" \
        "${choosing[@]}" --init-from "$teacher" "${first_options[@]}"
    average nart_fertility "$first"
    tokens_per_update=$((tokens_per_update / max_tokens * $1)) max_tokens="$1" \
        train nart_fertility.finetuned "$distilled" "${stage_updates[1]}" --arch "nart_fertility_$size" \
        "${choosing[@]}" --init-from "$first" "${first_options[@]}" --finetune-with "$teacher" \
        --finetune-weight "$2" --lr 2e-5 --lr-scheduler fixed
    average nart_fertility.finetuned "$run/nart_fertility.finetuned.pt"
    for name in nart_fertility{,.finetuned}; do
        translate "$run/$name.pt" test "$run/out/$name.average" --fertility-decoding average
        translate "$run/$name.pt" test "$run/out/$name.1"
        tune_rule "$name" --fertility-samples 10
        for samples in 10 100; do
            translate "$run/$name.pt" test "$run/out/$name.$samples" --fertility-samples "$samples" \
                "${rule[@]}"
        done
    done
    bleu test "$run/out"/nart_fertility{,.finetuned}.{average,1,10,100}
}

compare() (  # compare SET OUT...: prints BLEU; for several, with paired bootstrap against the first
    if [ $# -gt 2 ]; then bleu_options+=(--paired-bs); fi
    bleu "$@"
)
