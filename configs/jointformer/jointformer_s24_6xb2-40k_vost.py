# Stage 4: VOST; starts from stage 2. Pixels that are not annotated teach nothing.
_base_ = [
    './jointformer_eval_vost-val.py',
    './_base_/clips_vost.py',
    './_base_/schedule_40k.py',
]

model = dict(loss_ce=dict(start=4000, end=13000, ignore_index=255), loss_dice=dict(ignore_index=255))
load_from = 'checkpoints/jointformer_s2.pth'
