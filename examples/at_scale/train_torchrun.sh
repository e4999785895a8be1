#!/usr/bin/env bash
# Trains on one or several machines with torchrun. Takes the options of fairseq-train:
#
#   PROCESSES=8 examples/at_scale/train_torchrun.sh DATA --user-dir fairseq_nart --arch nart_dcrf ...
#
# With several machines, run it on each one, with the same options and these variables:
#
#   NODES=2 NODE=0 HOST=name-of-node-0 PROCESSES=8 examples/at_scale/train_torchrun.sh DATA ...
#
# PROCESSES is the number of GPUs of a machine; on the CPU, add --cpu. --save-dir must be a folder
# that all machines share. The same command continues a training that was interrupted.
set -euo pipefail

exec torchrun \
    --nnodes "${NODES:-1}" --node_rank "${NODE:-0}" --nproc_per_node "${PROCESSES:-2}" \
    --master_addr "${HOST:-127.0.0.1}" --master_port "${PORT:-29500}" \
    --no-python fairseq-train "$@"
