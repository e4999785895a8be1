#!/usr/bin/env bash
# N/2 updates of NART from the teacher's weights; from there N/2 of NART-CRF, N/2 of NART-DCRF and
# N/2 more of NART: each system has had N.
source "$(dirname "$0")/settings.sh"
students $((N / 2)) $((N / 2)) "$N"
