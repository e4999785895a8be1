#!/usr/bin/env bash
# The autoregressive Transformer that students learn from and that rescores their candidates.
source "$(dirname "$0")/settings.sh"
if [ -n "$TEACHER" ]; then
    once teacher cp "$TEACHER/teacher.pt" "$teacher"
else
    train teacher "$data" "$TEACHER_UPDATES" --arch nart_teacher_cpu
    average teacher "$teacher"
fi
