# Your own parallel text, of any two languages.
#
#   TEXT      folder with train, valid and test, each as .SRC and .TGT (or .gz): raw text, a sentence a line
#   SRC, TGT  the endings of its files, such as de and en
#   SIZE      of the models: cpu (default: 4+4 layers, width 256), small, base; see docs/options.md
#   PIECES    in the joint vocabulary (default: 8,000; 32,000 for millions of pairs)
#   TOKENIZE  sacreBLEU's tokenizer (default: 13a, which needs spaces; zh, ja-mecab, char, ...)
#   TOKENS    per update, padding included (default: 4,096; tens of thousands on GPUs)
#   TEACHER_UPDATES  of every autoregressive model (default: 2,000); raise it while valid still improves
#   N         updates of every student (default: 3,000): N/2 as NART, then N/2 as itself
text_in TEXT
for name in SRC TGT; do
    [ -n "${!name:-}" ] || refuse "set $name: examples/run.sh own_text --help describes it"
done
[ "$SRC" != "$TGT" ] || refuse "SRC and TGT are both $SRC: they must differ"
case "$SRC$TGT" in
    */*) refuse "SRC=$SRC TGT=$TGT: an ending must not contain a slash" ;;
esac
src="$SRC" tgt="$TGT" run="${NART_RUNS:-runs}/own_text" PIECES="${PIECES:-8000}"
tests=(test) pieces=(--pieces "$PIECES")
max_tokens=4096 tokens_per_update="${TOKENS:-4096}" teacher_tokens="${TOKENS:-4096}" teacher_options=()
size="${SIZE:-cpu}" averaged=1 beam=4 lenpen=1 tokenize="${TOKENIZE:-13a}"
TEACHER_UPDATES="${TEACHER_UPDATES:-2000}" N="${N:-3000}"
saving=(--save-interval-updates 1000 --keep-interval-updates 1)
stage_updates=($((N / 2)) $((N / 2))) first_options=(--warmup-updates 200)
second_options=(--lr 5e-4 --lr-scheduler polynomial_decay --warmup-updates 50)  # ends at a rate of 0
second_options+=(--total-num-update $((N / 2)))
alone_updates="$N" sets=(valid:valid test:test)
alone_options=("${second_options[@]}" --lr 7e-4 --warmup-updates 200 --total-num-update "$N")
begin

evaluate() {  # with 1, 9 and 19 lengths and 4 paths of 5; paired bootstrap against the teacher
    local set lengths out
    for set in valid test; do
        out="$run/out/$set"
        translate_all "$set" "$out"
        for lengths in 1 9 19 5x4; do
            students_of "$out" "$lengths"
            compare "$set" "$out/teacher" "${students[@]}"
        done
    done
}

teachers() {
    train_teachers
    translate_teachers test "$run/out/test"
    compare test "$run/out/test"/teacher_{lstm,conv,deep,deep_distilled}
}
