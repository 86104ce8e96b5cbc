# Stage 7: VISOR; starts from ConvMAE-B.
_base_ = [
    './jointformer_eval_visor-val.py',
    './_base_/clips_visor.py',
    './_base_/schedule_160k.py',
]

model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convmae_base.pth')))
