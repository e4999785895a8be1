#!/usr/bin/env bash
# The teacher's translation of train; valid and test stay as they are.
source "$(dirname "$0")/settings.sh"
distill
