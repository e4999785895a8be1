#!/usr/bin/env bash
# Raw text to pieces (PIECES, joint) and fairseq's binary form.
source "$(dirname "$0")/settings.sh"
once segment python examples/segment.py "$raw" "$text" --languages "$src" "$tgt" \
    --splits train valid test --pieces "$PIECES"
binarise
