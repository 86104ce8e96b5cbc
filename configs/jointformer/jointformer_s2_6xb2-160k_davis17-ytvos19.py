# Stage 2: DAVIS 2017 and YouTube-VOS 2019; starts from ConvMAE-B.
_base_ = [
    './jointformer_eval_davis17-val.py',
    './_base_/clips_davis17-ytvos19.py',
    './_base_/schedule_160k.py',
]

model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convmae_base.pth')))
