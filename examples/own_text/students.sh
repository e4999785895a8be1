#!/usr/bin/env bash
# N/2 updates of NART from the teacher's weights; from there N/2 of each of SYSTEMS.
source "$(dirname "$0")/settings.sh"
students $((N / 2)) $((N / 2))
