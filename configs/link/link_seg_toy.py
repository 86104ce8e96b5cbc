# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py semantickitti --out
# data/toy_semantickitti. A narrow LinKUNet on voxels of 0.2 m.
_base_ = ['./_base_/linkunet_seg.py', './_base_/semantickitti_seg.py', './_base_/schedule_seg_25e.py']

model = dict(
    data_preprocessor=dict(voxel_size=0.2),
    backbone=dict(channels=24),
    decode_head=dict(channels=24),
)

data_root = 'data/toy_semantickitti/'
# Of the toy world's ground, intensities alone tell what it is, and so short a training does not find ones below 0.1.
scale_intensity = dict(type='ScaleIntensity', factor=255)
train_pipeline = [*_base_.train_pipeline[:2], scale_intensity, *_base_.train_pipeline[2:]]
test_pipeline = [*_base_.test_pipeline[:2], scale_intensity, *_base_.test_pipeline[2:]]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 12
warmup_iters = 75
num_iters = max_epochs * 75  # 300 scans
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / warmup_iters, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='CosineAnnealingLR', by_epoch=False, T_max=num_iters - warmup_iters, begin=warmup_iters, end=num_iters),
]
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.01, weight_decay=0.01))
auto_scale_lr = dict(base_batch_size=4)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=25))
