#!/usr/bin/env bash
# Tokenised text to pieces (10,000, joint) and fairseq's binary form.
source "$(dirname "$0")/settings.sh"
once segment python examples/segment.py "$raw" "$text" --languages "$src" "$tgt" \
    --splits train valid test --pieces 10000
binarise
