# Multi30k (29,000 pairs) on a laptop's CPU: `_cpu` models, 4+4 layers, width 256.
#
#   MULTI30K  folder with train, valid, test2016, test2017 as .de.gz and .en.gz
#   SRC       de (default) or en: the direction
#   TEACHER   optional folder with a trained teacher of that direction: teacher.pt, dict.txt,
#             sentencepiece.model and, if it exists, its translation of train, train.distilled.sp.TGT.gz
#   TEACHER_UPDATES  of every autoregressive model trained here (default: 2,080)
#   N         updates of every student (default: 3,000): N/2 as NART, then N/2 as itself to a learning
#             rate of 0; all N as itself if the system does not start from NART
#   OTHER_SEED  of the step seeds (default: 2)
text_in MULTI30K
direction de en
run="${NART_RUNS:-runs}/multi30k_${src}_$tgt"
tests=(test2016 test2017) pieces=(--pieces 8000)
sets=(valid:valid test2016:test test2017:test1)  # the name of each and its subset in $data
max_tokens=4096 tokens_per_update=4096  # about 3,200 target tokens without padding
beam=4 lenpen=1
TEACHER="${TEACHER:-}" TEACHER_UPDATES="${TEACHER_UPDATES:-2080}" N="${N:-3000}"
teacher_tokens="$tokens_per_update" teacher_options=()
size=cpu averaged=1 saving=() stage_updates=($((N / 2)) $((N / 2))) first_options=(--warmup-updates 200)
second_options=(--lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 50)
second_options+=(--total-num-update $((N / 2)))
alone_updates="$N"
alone_options=("${second_options[@]}" --lr 7e-4 --warmup-updates 200 --total-num-update "$N")
for step in "${steps[@]}"; do
    case "$step" in
        bench | table2) [ "$src" = de ] || refuse "SRC=$src: $step is for German-English: leave SRC out" ;;
    esac
    case "$step" in  # fairseq treats 0 updates as no limit
        ablations | fertility | one_pass | one_pass_systems | sweep | table2)
            [ "$N" -ge 6 ] || refuse "N=$N: $step needs at least 6: it trains some systems for N/6 updates" ;;
    esac
done
begin

if [ -n "$TEACHER" ]; then
    for name in teacher.pt dict.txt sentencepiece.model; do
        [ -e "$TEACHER/$name" ] || [ -e "$run/done/teacher" ] || refuse "TEACHER=$TEACHER holds no $name"
    done
    pieces=(--model "$TEACHER/sentencepiece.model") dictionary=(--srcdict "$TEACHER/dict.txt")
    teacher() { once teacher cp "$TEACHER/teacher.pt" "$teacher"; }
    translated="$TEACHER/train.distilled.sp.$tgt.gz"
    if [ -e "$translated" ]; then distill() { once distill adopt; }; fi
fi

adopt() {  # builds $distilled from the existing translation of the teacher; valid and tests stay
    rm -rf "$distilled"
    cp "$text/train.$src" "$run/distilled.$src"
    gunzip -c "$translated" > "$run/distilled.$tgt"
    [ "$(wc -l < "$run/distilled.$src")" = "$(wc -l < "$run/distilled.$tgt")" ] ||
        refuse "$translated does not have as many lines as train"
    fairseq-preprocess -s "$src" -t "$tgt" --joined-dictionary --srcdict "$data/dict.$src.txt" \
        --trainpref "$run/distilled" --destdir "$distilled"
    cp "$data"/valid.* "$data"/test* "$distilled"
}

evaluate() {  # with 1, 9 and 19 lengths and 4 paths of 5; paired bootstrap against the first of SYSTEMS
    local set lengths out
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}"
        translate_all "${set#*:}" "$out"
        bleu "${set%:*}" "$out/teacher"
        for lengths in 1 9 19 5x4; do
            students_of "$out" "$lengths"
            compare "${set%:*}" "${students[@]}"
        done
    done
}

teachers() {
    local set out
    train_teachers
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}"
        translate_teachers "${set#*:}" "$out"
        bleu "${set%:*}" "$out"/teacher_{lstm,conv,deep,deep_distilled}
    done
}

ctc() {  ## CTC: its best path, and a beam of 10 that the teacher ranks
    local set out
    alone nart_ctc --ctc-split 2
    tune_rule nart_ctc --ctc-beam 10
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}"
        translate "$run/nart_ctc.pt" "${set#*:}" "$out/nart_ctc.1"
        translate "$run/nart_ctc.pt" "${set#*:}" "$out/nart_ctc.10" --ctc-beam 10 "${rule[@]}"
        bleu "${set%:*}" "$out"/nart_ctc.{1,10}
    done
}

# NMLA ends with N/6 more updates.
one_pass_systems() {  ## NART, NART-DCRF with 4 and 2 decoder layers, CTC with glancing and with NMLA, from one_pass's text
    local distilled name nart="$run/nart.ensemble.pt"
    ensemble
    alone_updates=$((N / 2)) alone nart.ensemble --total-num-update $((N / 2))
    second_stage nart_dcrf.ensemble nart_dcrf
    second_stage nart_dcrf.shallow nart_dcrf --decoder-layers 2
    alone nart_ctc.ensemble --ctc-split 2
    alone nart_ctc.glancing --ctc-split 2 --glancing
    further nart_ctc.ensemble.nmla $((N / 6)) --ctc-split 2 --ctc-loss nmla
    for name in nart_dcrf.{ensemble,shallow} nart_ctc.{glancing,ensemble.nmla}; do evaluate_length "$name"; done
}

one_pass_rivals() {  ## autoregressive models that learn from the text of one_pass
    local distilled name set out
    ensemble
    # The loss of the references does not show what they learn from translations.
    teach teacher_ensemble nart_teacher "$distilled" "${choosing[@]}"
    teach teacher_deep_ensemble nart_teacher_deep "$distilled" "${choosing[@]}"
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}"
        for name in teacher_ensemble teacher_deep_ensemble; do
            translate "$run/$name.pt" "${set#*:}" "$out/$name" --beam "$beam" --lenpen "$lenpen"
        done
        bleu "${set%:*}" "$out"/teacher{,_deep}_ensemble
    done
}

# A CRF is trained from the beginning (dcrf), or for N/6 updates on the trained graph (after).
dag() {  ## a directed graph, also with glancing and with a CRF: one output, and 5 lengths that the teacher ranks
    local name set out
    alone nart_dag
    alone nart_dag.glancing --glancing --glancing-ratio 0.5,0.1
    alone nart_dag.dcrf --output dcrf
    further nart_dag.after $((N / 6)) --output dcrf
    for name in nart_dag{,.glancing,.dcrf,.after}; do
        tune_length "$name"
        tune_rule "$name" --dag-paths 5
        for set in "${sets[@]}"; do
            out="$run/out/${set%:*}/$name"
            translate "$run/$name.pt" "${set#*:}" "$out.lookahead" --dag-search lookahead
            translate "$run/$name.pt" "${set#*:}" "$out.1" "${length[@]}"
            translate "$run/$name.pt" "${set#*:}" "$out.5" --dag-paths 5 "${rule[@]}"
            bleu "${set%:*}" "$out".{lookahead,1,5}
        done
    done
}

# Most targets have 8 to 16 tokens. So 8 tokens per latent, the papers' compression, leave one or two latents.
latent() {  ## latent Transformer and VQ-VAE with 2 and 8 tokens per latent, and 1, 10 and 100 samples
    local name set samples out
    for name in nart_{latent,vqvae}.{2,8}; do
        alone "$name" --compression "${name##*.}" --latent-bits 10
        tune_rule "$name" --latent-samples 10
        for set in "${sets[@]}"; do
            out="$run/out/${set%:*}"
            translate "$run/$name.pt" "${set#*:}" "$out/$name.1"
            for samples in 10 100; do
                translate "$run/$name.pt" "${set#*:}" "$out/$name.$samples" \
                    --latent-samples "$samples" "${rule[@]}"
            done
        done
    done
    for set in "${sets[@]}"; do
        bleu "${set%:*}" "$run/out/${set%:*}"/nart_{latent,vqvae}.{2,8}.{1,10,100}
    done
}

# Fine-tuning starts at fifteen times the published rate, which is for a far longer training. The same number of
# updates without the teacher shows the effect of the teacher.
fertility() {  ## NAT with fertilities, then N/6 more updates with the teacher, and without
    local set name samples out
    align
    alone nart_fertility
    further nart_fertility.finetuned $((N / 6)) --finetune-with "$teacher"
    further nart_fertility.longer $((N / 6))
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}"
        for name in nart_fertility{,.finetuned,.longer}; do
            translate "$run/$name.pt" "${set#*:}" "$out/$name.1"
            tune_rule "$name" --fertility-samples 10
            for samples in 10 100; do
                translate "$run/$name.pt" "${set#*:}" "$out/$name.$samples" \
                    --fertility-samples "$samples" "${rule[@]}"
            done
        done
        bleu "${set%:*}" "$out"/nart_fertility{,.finetuned,.longer}.{1,10,100}
    done
}

# Each system with 1 and 9 lengths.
enat() {  ## ENAT-P, whose decoder reads phrases of a table, and ENAT-E, whose decoder reads mapped embeddings
    local aligner system set out
    choose_aligner
    once phrases fairseq-nart phrase-table "$distilled" "${aligner[@]}" --out "$run/phrases.tsv"
    alone nart_enat_p --phrase-table "$run/phrases.tsv"
    alone nart_enat_e
    for system in nart_enat_p nart_enat_e; do
        tune_rule "$system" --length-candidates 9
        for set in "${sets[@]}"; do
            out="$run/out/${set%:*}/$system"
            translate "$run/$system.pt" "${set#*:}" "$out.1"
            translate "$run/$system.pt" "${set#*:}" "$out.9" --length-candidates 9 "${rule[@]}"
            bleu "${set%:*}" "$out".{1,9}
        done
    done
}

reg() {  ## NAT-REG, with 1, 9 and 19 lengths
    local set
    alone nart_reg --similarity-weight 0.5 --reconstruction-weight 0.1
    for set in "${sets[@]}"; do
        translate_lengths nart_reg "${set#*:}" "$run/out/${set%:*}"
        bleu "${set%:*}" "$run/out/${set%:*}"/nart_reg.{1,9,19}
    done
}

# Refinement's repeated words are removed, and mask-predict also has five lengths, as in their papers.
refinement() {  ## iterative refinement and mask-predict, with several numbers of iterations and of lengths
    local system set name subset refined filled iterations stop lengths adaptive
    for system in nart_refinement nart_cmlm; do  # valid has as many iterations as training
        alone "$system" --refinement-iterations 4
    done
    adaptive=(--refinement-stop jaccard --dedup)
    tune_rule nart_refinement "${adaptive[@]}" --length-candidates 9
    for set in "${sets[@]}"; do
        name="${set%:*}" subset="${set#*:}"
        refined="$run/out/$name/nart_refinement" filled="$run/out/$name/nart_cmlm"
        for iterations in 1 2 5 10; do
            translate "$run/nart_refinement.pt" "$subset" "$refined.$iterations" \
                --refinement-iterations "$iterations" --dedup
        done
        for stop in equality jaccard unchanged; do
            translate "$run/nart_refinement.pt" "$subset" "$refined.$stop" \
                --refinement-stop "$stop" --dedup --print-step
            echo "$name, $stop: $(LC_ALL=C grep -a ^I- "$refined.$stop.log" | cut -f2 |
                awk '{ total += $1 } END { if (NR) print total / NR }') iterations a sentence"
        done
        translate "$run/nart_refinement.pt" "$subset" "$refined.5_lengths" "${adaptive[@]}" \
            --length-candidates 5
        translate "$run/nart_refinement.pt" "$subset" "$refined.9_lengths" "${adaptive[@]}" \
            --length-candidates 9 "${rule[@]}"
        for iterations in 1 4 10; do
            for lengths in 1 5; do
                translate "$run/nart_cmlm.pt" "$subset" "$filled.$iterations.$lengths" \
                    --refinement-iterations "$iterations" --length-candidates "$lengths"
            done
        done
        bleu "$name" "$refined".{1,2,5,10,equality,jaccard,unchanged,5_lengths,9_lengths} \
            "$filled".{1,4,10}.{1,5}
    done
}

# It has the same size, data and number of updates as NART-DCRF, its own length classifier, and no refinement.
# `--user-dir` applies the fixes without which it does not run. Freed memory is kept for it too; no other
# speed-up of the plugin applies to it.
peer() {  ## after evaluate: fairseq's own NAT-CRF, with static transitions, against NART-DCRF
    local layers=() side set out
    for side in encoder decoder; do
        layers+=("--$side-layers" 4 "--$side-embed-dim" 256 "--$side-ffn-embed-dim" 1024)
        layers+=("--$side-attention-heads" 4 "--$side-learned-pos")
    done
    train nacrf "$distilled" "$N" --task translation_lev --arch nacrf_transformer --criterion nat_loss \
        --noise full_mask --pred-length-offset --length-loss-factor 0.1 --apply-bert-init \
        --share-all-embeddings --dropout 0.1 --label-smoothing 0.1 "${layers[@]}" \
        --optimizer adam --adam-betas '(0.9, 0.98)' --lr 1e-3 --lr-scheduler inverse_sqrt \
        --warmup-updates 500
    for set in "${sets[@]}"; do
        out="$run/out/${set%:*}"
        translate "$run/nacrf/checkpoint_best.pt" "${set#*:}" "$out/nacrf.1" --task translation_lev \
            --iter-decode-max-iter 0 --iter-decode-with-beam 1
        compare "${set%:*}" "$out/nacrf.1" "$out/nart_dcrf.1"
    done
}

ablations() {  ## what each choice is worth: NART-DCRF with one choice changed, N/3 updates in all
    local N=$((N / 3)) name set out
    local options=("${second_options[@]}" --total-num-update $((N / 2)))
    ablation base "$distilled" first
    ablation t_plus_c "$distilled" first.t_plus_c --length-predictor offset
    ablation raw "$data" first.raw
    ablation glancing "$distilled" first.glancing --glancing
    train ablation/lambda_0 "$distilled" $((N / 2)) --arch nart_dcrf_cpu --eval-bleu \
        --init-from "$run/ablation/first/checkpoint_best.pt" "${options[@]}" --nar-loss-weight 0
    train ablation/cold "$distilled" "$N" --arch nart_dcrf_cpu --eval-bleu "${options[@]}" \
        --lr 7e-4 --warmup-updates 200 --total-num-update "$N"
    for name in base t_plus_c raw glancing lambda_0 cold; do
        for set in valid:valid test2016:test; do
            out="$run/out/${set%:*}/ablation.$name"
            translate "$run/ablation/$name/checkpoint_best.pt" "${set#*:}" "$out"
            bleu "${set%:*}" "$out"
        done
    done
}

ablation() {  # ablation NAME DATA FIRST OPTIONS...: trains FIRST, a NART, and from it NAME, NART-DCRF
    train "ablation/$3" "$2" $((N / 2)) --arch nart_cpu --eval-bleu --init-from "$teacher" \
        "${first_options[@]}" "${@:4}"
    train "ablation/$1" "$2" $((N / 2)) --arch nart_dcrf_cpu --eval-bleu \
        --init-from "$run/ablation/$3/checkpoint_best.pt" "${options[@]}" "${@:4}"
}

sweep() {  ## NART-DCRF with other numbers of CRF candidates and other ranks, N/6 updates each
    local candidates rank
    vary base
    for candidates in 8 256; do vary "k$candidates" --crf-candidates "$candidates"; done
    for rank in 8 128; do vary "r$rank" --crf-rank "$rank"; done
}

vary() {  # vary NAME OPTIONS...: trains NAME, NART-DCRF with OPTIONS
    train "sweep/$1" "$distilled" $((N / 6)) --arch nart_dcrf_cpu --eval-bleu \
        --init-from "$nart" "${second_options[@]}" --total-num-update $((N / 6)) "${@:2}"
    average "sweep/$1" "$run/sweep/$1.pt"
}

seeds() {  ## the second stage of NART-CRF and NART-DCRF with another seed, OTHER_SEED
    local SEED="${OTHER_SEED:-2}" system name set out
    for system in nart_crf nart_dcrf; do
        name="$system.seed$SEED"
        second_stage "$name" "$system"
        for set in "${sets[@]}"; do
            out="$run/out/${set%:*}"
            translate_lengths "$name" "${set#*:}" "$out"
            bleu "${set%:*}" "$out/$name".{1,9,19,5x4}
        done
    done
}

bench() {  ## quality and speed of all trained systems: a table, figures and a page
    fairseq-nart bench examples/recipes/multi30k_de_en.bench.toml --root "$run" --out "$run/bench" \
        --skip-missing
    fairseq-nart report "$run/bench" --out "$run/report" --published sun2019 \
        --baseline "Transformer, beam $beam" --teacher "Transformer, beam $beam"
}

table2() {  ## all systems, from text to the report: most of a day on two cores
    local step
    for step in prepare teacher distill students evaluate teachers peer sweep ctc dag fertility enat \
        reg latent refinement one_pass one_pass_systems one_pass_rivals bench; do
        "$step"
    done
}
