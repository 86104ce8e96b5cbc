# Stage 5: MOSE; starts from ConvMAE-B. Its own validation set has no public ground truth.
_base_ = [
    './jointformer_eval_mose-val.py',
    './_base_/clips_mose.py',
    './_base_/schedule_160k.py',
]

model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convmae_base.pth')))
