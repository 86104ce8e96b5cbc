#!/usr/bin/env bash
# From a fresh checkout to a trained detector: sets up the environment, renders a toy data set, trains DEQDet on it with
# the stock runner, tests it with the stock COCO metric and draws its predictions. May be interrupted and run again at
# any time: what is done is skipped, the training resumes from its last checkpoint.
#
# Usage: bash tools/quickstart.sh [--python PY] [--venv DIR] [--torch-index URL] [--cpu-only]
#
# The options, and the environment variables, are those of tools/setup_env.sh: see bash tools/setup_env.sh --help

set -euo pipefail
banner='Quickstart of mvbench_plugins, on 2 CPU cores:
  1. set-up      about 2 minutes of installing; the first time 6 to 10 minutes more to compile mmcv
  2. toy data    a few seconds
  3. training    about 15 minutes
  4. test        under a minute
  5. picture     a few seconds
'
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" "$@"

start=$SECONDS
cd "$root"
config=configs/deqdet/deqdet_r18_toy.py
work_dir=work_dirs/quickstart
data=data/toy_coco
picture=$work_dir/predictions.png

step() { printf '\n[quickstart] %s\n' "$*"; }

# Hash of the config with all that it inherits, so that only a change that matters starts another training.
config_hash() {
    run_python "$config" <<'PY'
import hashlib, json, sys
from mmengine import Config
config = Config.fromfile(sys.argv[1], import_custom_modules=False)
print(hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True, default=str).encode()).hexdigest())
PY
}

# mmengine notes the path of the last checkpoint; only its name is used, so that the checkout may be moved.
last_checkpoint() {
    [ ! -e "$work_dir/last_checkpoint" ] || echo "$work_dir/$(basename "$(cat "$work_dir/last_checkpoint")")"
}

is_trained() { [ "$(cat "$work_dir/trained" 2>/dev/null)" = "$hash" ] && [ -e "$(last_checkpoint)" ]; }

train() {
    if [ -e "$work_dir/config_hash" ] && [ "$(cat "$work_dir/config_hash")" != "$hash" ]; then
        local old
        old=$work_dir-$(date +%Y%m%d-%H%M%S)
        mv "$work_dir" "$old"
        echo "$config has changed: training anew, the earlier run is kept in $old"
    fi
    mkdir -p "$work_dir"
    echo "$hash" >"$work_dir/config_hash"
    "$py" -W ignore tools/train.py "$config" --work-dir "$work_dir" --resume
    echo "$hash" >"$work_dir/trained"
}

# The test leaves its figures in <work dir>/<time>/<time>.json.
test_checkpoint() {
    local results
    rm -rf "$work_dir/test"
    "$py" -W ignore tools/test.py "$config" "$checkpoint" --work-dir "$work_dir/test"
    results=("$work_dir"/test/*/[0-9]*.json)
    cp "${results[0]}" "$metrics.part"
    mv "$metrics.part" "$metrics"
}

draw() {
    "$py" -W ignore - "$config" "$checkpoint" "$data" "$picture.part.png" <<'PY'
import sys
from pathlib import Path

import cv2
import numpy as np
from mmdet.apis import DetInferencer

config, checkpoint, data, out = sys.argv[1:]
# Enlarged, so that there is room for the labels; the pipeline of the config brings them back to the size it trains on.
images = [cv2.resize(cv2.imread(str(path)), None, fx=4, fy=4) for path in sorted(Path(data, 'val').glob('*.png'))[:6]]
inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
drawn = inferencer(images, return_vis=True, pred_score_thr=0.3, no_save_pred=True)['visualization']
rows = [np.hstack(drawn[i:i + 3]) for i in range(0, len(drawn), 3)]
cv2.imwrite(out, np.vstack(rows)[..., ::-1])
PY
    mv "$picture.part.png" "$picture"
}

summary() {
    "$py" - "$metrics" <<'PY'
import json, sys
figures = json.load(open(sys.argv[1]))
ap, ap50 = figures['coco/bbox_mAP'], figures['coco/bbox_mAP_50']
print(f'  result       AP {ap:.3f}, AP50 {ap50:.3f} on the validation images (COCO metric)')
PY
    cat <<TEXT
  checkpoint   $checkpoint
  logs         $(find "$work_dir" -maxdepth 2 -name '*.log' | sort | tail -n 1)
  metrics      $metrics
  picture      $picture
  time         $(duration $((SECONDS - start))) in this run, without the set-up

What to try next, in $root${activate:+ after \`$activate\`}:
  your own pictures     python - <<'PY'
from mmdet.apis import DetInferencer
DetInferencer('$config', '$checkpoint', device='cpu')('FOLDER', out_dir='out')
PY
  fewer steps, faster   python tools/test.py $config $checkpoint --cfg-options model.test_cfg.rcnn.refinement_steps=3
  speed and memory      python tools/benchmark.py $config
  real data             configs/deqdet/README.md
TEXT
}

step '2/5 toy data'
"$py" -W ignore tools/make_toy_data.py coco --out "$data"

hash=$(config_hash)
step "3/5 training of $config in $work_dir"
if is_trained; then echo 'done already'; else train; fi
checkpoint=$(last_checkpoint)
metrics=$work_dir/metrics.json

step '4/5 test with the COCO metric'
if [ "$metrics" -nt "$checkpoint" ]; then echo 'done already'; else test_checkpoint; fi

step '5/5 picture'
if [ "$picture" -nt "$checkpoint" ]; then echo 'done already'; else draw; fi

step 'Summary'
summary
