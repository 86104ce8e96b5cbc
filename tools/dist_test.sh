#!/usr/bin/env bash
# Tests with several processes: one per GPU, or, without CUDA, GPUS processes on the CPU (gloo).
# Usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT as in the stock script.
set -euo pipefail

if [[ $# -lt 3 || ! $3 =~ ^[0-9]+$ ]]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]; found: $0 $*" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
PORT=${PORT:-29500}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}

# torchrun would take one thread per process; on the CPU the processes do the work of a GPU and share the cores
THREADS=$(($(nproc) / (GPUS > 0 ? GPUS : 1)))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((THREADS > 0 ? THREADS : 1))}

exec python -m torch.distributed.run \
    --nnodes="$NNODES" \
    --nproc_per_node="$GPUS" \
    --node_rank="$NODE_RANK" \
    --master_addr="$MASTER_ADDR" \
    --master_port="$PORT" \
    "$(dirname "$0")/test.py" \
    "$CONFIG" \
    "$CHECKPOINT" \
    --launcher pytorch \
    "$@"
