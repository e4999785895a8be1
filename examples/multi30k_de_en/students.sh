#!/usr/bin/env bash
# N/2 updates of NART from the teacher's weights; from there N/2 each of NART, NART-CRF and NART-DCRF.
source "$(dirname "$0")/settings.sh"
students $((N / 2)) $((N / 2))
