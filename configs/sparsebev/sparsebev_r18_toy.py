# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py nuscenes --out data/toy_nuscenes, then
# python tools/create_nuscenes_sweeps.py --root-path data/toy_nuscenes
_base_ = ['./_base_/sparsebev_r50.py', '../_base_/datasets/toy_nuscenes.py']

num_frames = 2
channels = 64
# The toy world is smaller than a city. Queries start at the bottom of the range, here not far below its ground.
pc_range = [-40.0, -40.0, -2.5, 40.0, 40.0, 1.5]
model = dict(
    data_preprocessor=dict(color_augmentation=False, grid_mask_prob=0.0),
    img_backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, with_cp=False, init_cfg=None),
    img_neck=dict(in_channels=[32, 64, 128, 256], out_channels=channels),
    pts_bbox_head=dict(
        in_channels=channels,
        num_query=144,
        pc_range=pc_range,
        num_frames=num_frames,
        num_points=8,
        num_decoder_layers=3,
        feedforward_channels=256,
        dropout=0.0,
        with_cp=False,
        denoising=dict(num_groups=4),
        bbox_coder=dict(pc_range=pc_range),
    ),
)

train_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=num_frames),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=pc_range),
    *_base_.train_pipeline[3:],
]
test_pipeline = [dict(type='LoadMultiFrameImages', num_frames=num_frames, test_mode=True), *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 16
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=8e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(sampling_offset=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=2)
randomness = dict(seed=0)

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        interval=1, max_keep_ckpts=2, save_best='NuScenes metric/pred_instances_3d_NuScenes/NDS', rule='greater'
    ),
)
