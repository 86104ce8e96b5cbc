# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py ava --out data/toy_ava
_base_ = ['./_base_/stmixer.py']

num_actions = 8
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
        num_classes=num_actions,
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

data_root = 'data/toy_ava/'
label_file = 'annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt'
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='AVAKeyFrameDataset',
        data_root=data_root,
        ann_file='annotations/ava_train_v2.2.csv',
        frame_list='frame_lists/train.csv',
        data_prefix=dict(img='frames'),
        label_file=label_file,
        num_classes=num_actions + 1,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='AVAKeyFrameDataset',
        data_root=data_root,
        ann_file='annotations/ava_val_v2.2.csv',
        frame_list='frame_lists/val.csv',
        data_prefix=dict(img='frames'),
        label_file=label_file,
        num_classes=num_actions + 1,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='AVAFrameMetric',
    ann_file=data_root + 'annotations/ava_val_v2.2.csv',
    exclude_file=data_root + 'annotations/ava_val_excluded_timestamps_v2.2.csv',
    label_file=data_root + label_file,
    num_classes=num_actions + 1,
)
test_evaluator = val_evaluator

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
