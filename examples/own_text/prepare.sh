#!/usr/bin/env bash
# Raw text to pieces (PIECES, joint) and fairseq's binary form.
source "$(dirname "$0")/settings.sh"
once segment anew "$text/spm.model" python examples/segment.py "$TEXT" "$text" --languages "$src" "$tgt" \
    --splits train valid test --pieces "$PIECES"
binarise
