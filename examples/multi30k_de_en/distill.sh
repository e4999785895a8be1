#!/usr/bin/env bash
# The teacher's translation of train; valid and the test sets stay as they are.
source "$(dirname "$0")/settings.sh"
made="$TEACHER/train.distilled.sp.$tgt.gz"
adopt() {  # a translation that came with the teacher
    rm -rf "$distilled"
    cp "$text/train.$src" "$run/distilled.$src"
    gunzip -c "$made" > "$run/distilled.$tgt"
    [ "$(wc -l < "$run/distilled.$src")" = "$(wc -l < "$run/distilled.$tgt")" ] ||
        refuse "$made does not have as many lines as train"
    fairseq-preprocess -s "$src" -t "$tgt" --joined-dictionary --srcdict "$data/dict.$src.txt" \
        --trainpref "$run/distilled" --destdir "$distilled"
    cp "$data"/valid.* "$data"/test* "$distilled"
}
if [ -e "$made" ]; then once distill adopt; else distill; fi
