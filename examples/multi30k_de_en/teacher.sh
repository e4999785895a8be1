#!/usr/bin/env bash
# The autoregressive Transformer that students learn from and that rescores their candidates.
source "$(dirname "$0")/settings.sh"
if [ -n "$TEACHER" ]; then
    once teacher cp "$TEACHER/teacher.pt" "$teacher"
else
    teach teacher nart_teacher "$data"
fi
