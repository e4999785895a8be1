#!/usr/bin/env bash
# Raw text to pieces (8,000, joint) and fairseq's binary form.
source "$(dirname "$0")/settings.sh"
model=() dictionary=()
if [ -n "$TEACHER" ]; then
    model=(--model "$TEACHER/sentencepiece.model") dictionary=(--srcdict "$TEACHER/dict.txt")
fi
once segment anew "$text/spm.model" python examples/segment.py "$MULTI30K" "$text" --languages "$src" "$tgt" \
    --splits train valid test2016 test2017 --pieces 8000 "${model[@]}"
binarise "${dictionary[@]}"
