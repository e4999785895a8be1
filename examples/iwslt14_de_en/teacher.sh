#!/usr/bin/env bash
# The autoregressive Transformer, 4,096 tokens an update as in fairseq's own recipe.
source "$(dirname "$0")/settings.sh"
tokens_per_update=4096 train teacher "$data" "$TEACHER_UPDATES" --arch nart_teacher_small \
    --weight-decay 1e-4
average teacher "$teacher"
