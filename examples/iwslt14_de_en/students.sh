#!/usr/bin/env bash
# NART from the teacher's weights, then NART-CRF and NART-DCRF from NART; lengths by T + C.
source "$(dirname "$0")/settings.sh"
students "$NART_UPDATES" "$CRF_UPDATES" "$NART_UPDATES"
