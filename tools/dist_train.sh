#!/usr/bin/env bash
# Trains with several processes: one per GPU, or, without CUDA, GPUS processes on the CPU (gloo).
# Usage: bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT as in the stock script;
#   MAX_RESTARTS=N  when a worker dies, start all workers again, up to N times; they continue from the last checkpoint
#                   of the work dir, as does the first start (--resume is added).
set -euo pipefail

if [[ $# -lt 2 || ! $2 =~ ^[0-9]+$ ]]; then
    echo "usage: $0 CONFIG GPUS [arguments of train.py]; found: $0 $*" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
shift 2
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
PORT=${PORT:-29500}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
MAX_RESTARTS=${MAX_RESTARTS:-0}

# torchrun would take one thread per process; on the CPU the processes do the work of a GPU and share the cores
THREADS=$(($(nproc) / (GPUS > 0 ? GPUS : 1)))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((THREADS > 0 ? THREADS : 1))}

RENDEZVOUS=(--node_rank="$NODE_RANK" --master_addr="$MASTER_ADDR" --master_port="$PORT")
if [[ $MAX_RESTARTS -gt 0 ]]; then
    for ((i = 1; i <= $#; i++)); do
        next=$((i + 1))
        if [[ ${!i} == --resume=* || (${!i} == --resume && $next -le $# && ${!next} != -*) ]]; then
            echo "$0: with MAX_RESTARTS, give --resume no checkpoint: each restart would fall back to it." \
                "Copy the run to a work dir of its own and let --resume find its last checkpoint." >&2
            exit 2
        fi
    done
    set -- "$@" --resume
    # with the static rendezvous, or a store shared by all attempts, torch 2.13 hands restarted workers the addresses of
    # the dead ones ("connectFullMesh failed ... Connection refused"): a new store for each attempt
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    RENDEZVOUS=(--rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$PORT" --rdzv_id="mvbench_plugins-$PORT")
    if [[ $NNODES == 1 ]]; then
        RENDEZVOUS+=(--local_addr="$MASTER_ADDR")
    fi
fi

exec python -m torch.distributed.run \
    --nnodes="$NNODES" \
    --nproc_per_node="$GPUS" \
    --max_restarts="$MAX_RESTARTS" \
    "${RENDEZVOUS[@]}" \
    "$(dirname "$0")/train.py" \
    "$CONFIG" \
    --launcher pytorch \
    "$@"
