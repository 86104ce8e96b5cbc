# Stage 1: BL30K; starts from stage 0.
_base_ = [
    './jointformer_eval_davis17-val.py',
    './_base_/clips_bl30k.py',
    './_base_/schedule_300k.py',
]

load_from = 'checkpoints/jointformer_s0.pth'
