#!/usr/bin/env bash
# The autoregressive Transformer, base size, 32,768 tokens an update.
source "$(dirname "$0")/settings.sh"
tokens_per_update=32768 train teacher "$data" "$TEACHER_UPDATES" --arch nart_teacher_base
average teacher "$teacher"
