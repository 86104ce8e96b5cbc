# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py ava --out data/toy_ava
_base_ = ['./_base_/evad_vit-b.py', '../_base_/datasets/toy_ava.py']

channels = 64
model = dict(
    data_preprocessor=dict(pad_size_divisor=16),
    backbone=dict(
        keep_rate=0.7,
        prune_blocks=(2, 3),
        out_indices=(1, 2, 3),
        img_size=96,
        patch_size=8,
        embed_dims=64,
        depth=4,
        num_heads=2,
        num_frames=8,
        drop_path_rate=0.0,
        with_cp=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[64] * 3, scales=(2, 1, 0.5), out_channels=channels, num_outs=3),
    proposals=dict(num_proposals=24, proposal_feature_channel=channels),
    head=dict(
        num_classes=8,
        localizer=dict(
            num_stages=3,
            stage=dict(
                in_channels=channels,
                feedforward_channels=256,
                dynamic_conv_cfg=dict(in_channels=channels, feat_channels=32, out_channels=channels),
            ),
            roi_extractor=dict(out_channels=channels, featmap_strides=[4, 8, 16], finest_scale=28),
        ),
        refinement=dict(
            in_channels=64,
            num_frames=4,
            embed_dims=64,
            depth=2,
            num_heads=2,
            hidden_dim=256,
            drop_path_rate=0.0,
            extend=(0.4, 0.2),
            patch_size=8,
            pos_grid=(12, 12),
            keep_places=True,
            with_cp=False,
        ),
        # Where people are comes first: without it nothing can be told of what they do.
        loss_action=dict(loss_weight=3.0),
        test_cfg=dict(person_score_thr=0.5),
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

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 30
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='mAP/overall'))
