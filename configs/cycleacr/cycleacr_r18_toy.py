# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py ava --out data/toy_ava
_base_ = ['mmaction::_base_/default_runtime.py', './_base_/cycleacr.py', '../_base_/datasets/toy_ava.py']

model = dict(
    backbone=dict(
        type='ResNet3dSlowOnly',
        depth=18,
        lateral=False,
        base_channels=16,
        num_stages=3,
        out_indices=(2,),
        conv1_kernel=(3, 7, 7),
        inflate=(1, 1, 1),
        inflate_style='3x3x3',
        spatial_strides=(1, 2, 1),
        temporal_strides=(1, 1, 1),
        dilations=(1, 1, 1),
        zero_init_residual=False,
    ),
    head=dict(
        in_channels=64,
        num_classes=8,
        num_frames=8,
        dim=64,
        depth=1,
        instance_depth=1,
        hidden_dim=128,
        featmap_stride=8,
        loss=dict(type='PersonSumBCELoss'),
    ),
    memory=dict(before=2, after=2),
)

train_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=8, frame_interval=4),
    dict(type='LoadClipFrames'),
    # No flip: it would turn one action into another.
    dict(type='ResizeShortSide', scale=96),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackPersonInputs'),
]
test_pipeline = train_pipeline
train_dataloader = dict(dataset=dict(type='AVAPersonDataset', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(type='AVAPersonDataset', person_file='annotations/person_boxes_val.csv', pipeline=test_pipeline)
)
test_dataloader = val_dataloader

max_epochs = 40
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='MemoryValLoop')
test_cfg = dict(type='MemoryTestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=0)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='mAP/overall'))
custom_hooks = [dict(type='MemoryBankHook')]
