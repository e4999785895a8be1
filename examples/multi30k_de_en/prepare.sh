#!/usr/bin/env bash
# Raw text to pieces (8,000, joint) and fairseq's binary form.
source "$(dirname "$0")/settings.sh"
model=(--pieces 8000) dictionary=()
if [ -n "$TEACHER" ]; then
    model=(--model "$TEACHER/sentencepiece.model") dictionary=(--srcdict "$TEACHER/dict.txt")
fi
once segment python examples/segment.py "$raw" "$text" --languages "$src" "$tgt" \
    --splits train valid test2016 test2017 "${model[@]}"
binarise "${dictionary[@]}"
