_base_ = [
    './_base_/sparsebev_r101.py',
    './_base_/schedule_24e.py',
    './_base_/nuscenes_1408x512.py',
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.2))))
