# Stage 0: static images, one object; starts from ConvMAE-B.
_base_ = [
    './jointformer_eval_davis17-val.py',
    './_base_/clips_static.py',
    './_base_/schedule_150k.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convmae_base.pth'), mask_channels=1),
    train_cfg=dict(num_slots=1),
)
