#!/usr/bin/env bash
# NART from the teacher's weights; from there NART, NART-CRF and NART-DCRF. Lengths by T + C.
source "$(dirname "$0")/settings.sh"
students "$FIRST_UPDATES" "$SECOND_UPDATES"
