# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py ava --out data/toy_ava
_base_ = ['./_base_/stmixer.py', '../_base_/datasets/toy_ava.py']

model = dict(
    backbone=dict(
        type='ResNet3dSlowOnly',
        depth=18,
        lateral=False,
        base_channels=16,
        out_indices=(0, 1, 2, 3),
        conv1_kernel=(3, 7, 7),
        inflate=(0, 1, 1, 1),
        inflate_style='3x3x3',
        spatial_strides=(1, 2, 2, 2),
        zero_init_residual=False,
    ),
    neck=dict(type='ChannelMapper3d', in_channels=[16, 32, 64, 128], out_channels=64),
    head=dict(
        num_classes=8,
        num_queries=12,
        num_stages=3,
        stage=dict(embed_dims=64, num_points=8, num_groups=2, out_multiplier=4, feedforward_channels=256),
    ),
)

train_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=8, frame_interval=4),
    dict(type='LoadClipFrames'),
    dict(type='ClipBoxes'),
    # No flip: it would turn one action into another.
    dict(type='ResizeShortSide', scale=96),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
test_pipeline = train_pipeline

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 30
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
    # The parts that start without pretraining learn faster.
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=4.0), neck=dict(lr_mult=4.0))),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=0)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='mAP/overall'))
