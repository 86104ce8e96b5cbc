# A backbone that has seen no streets has more to learn.
_base_ = [
    './_base_/sparsebev_r50.py',
    './_base_/schedule_36e.py',
    '../_base_/datasets/nuscenes_multiview.py',
]

model = dict(img_backbone=dict(init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='torchvision://resnet50')))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.4))))
