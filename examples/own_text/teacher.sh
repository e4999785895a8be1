#!/usr/bin/env bash
# The autoregressive Transformer that students learn from and that rescores their candidates.
source "$(dirname "$0")/settings.sh"
teach teacher nart_teacher "$data"
