# Stage 6: LVOS; starts from stages 0 and 2.
_base_ = [
    './jointformer_eval_lvos-val.py',
    './_base_/clips_lvos.py',
    './_base_/schedule_10k.py',
]

model = dict(loss_ce=dict(start=1000, end=2500))
load_from = 'checkpoints/jointformer_s02.pth'
default_hooks = dict(checkpoint=dict(interval=2500))
