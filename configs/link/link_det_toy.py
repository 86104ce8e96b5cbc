# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py nuscenes --out data/toy_nuscenes, then
# python tools/create_nuscenes_sweeps.py --root-path data/toy_nuscenes. Single sweeps, voxels of 0.15 m.
_base_ = ['./_base_/det_voxel0075.py', './_base_/det_schedule_20e.py', './_base_/det_nuscenes.py']

point_cloud_range = [-38.4, -38.4, -5.0, 38.4, 38.4, 3.0]  # the toy world is smaller than a city
voxel_size = [0.15, 0.15, 0.2]
grid_size = [512, 512, 40]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(voxel_size=voxel_size, max_voxels=(10000, 10000), point_cloud_range=point_cloud_range)
    ),
    pts_middle_encoder=dict(
        sparse_shape=[grid_size[2] + 1, grid_size[1], grid_size[0]],
        channels=(16, 16, 32, 64),
        output_channels=64,
    ),
    pts_backbone=dict(in_channels=128, out_channels=[64, 128], layer_nums=[2, 2]),
    pts_neck=dict(in_channels=[64, 128], out_channels=[64, 64]),
    pts_bbox_head=dict(
        in_channels=128,
        share_conv_channel=32,
        separate_head=dict(head_conv=32),
        bbox_coder=dict(pc_range=point_cloud_range[:2], voxel_size=voxel_size[:2]),
    ),
    train_cfg=dict(
        pts=dict(
            point_cloud_range=point_cloud_range,
            grid_size=grid_size,
            voxel_size=voxel_size,
        )
    ),
)

data_root = 'data/toy_nuscenes/'
load_sweeps = dict(_base_.load_sweeps, sweeps_num=0)
train_pipeline = [
    *_base_.load_key_frame,
    load_sweeps,
    _base_.load_annotations,
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type='ObjectCornerRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=_base_.class_names),
    dict(type='PointShuffle'),
    dict(type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
test_pipeline = [*_base_.load_key_frame, load_sweeps, dict(type='Pack3DDetInputs', keys=['points'])]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='NuScenesDataset',
        data_root=data_root,
        ann_file='nuscenes_multiview_infos_train.pkl',
        data_prefix=_base_.data_prefix,
        metainfo=_base_.metainfo,
        modality=dict(use_lidar=True, use_camera=False),
        pipeline=train_pipeline,
        use_valid_flag=True,
        box_type_3d='LiDAR',
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, ann_file='nuscenes_multiview_infos_val.pkl', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_multiview_infos_val.pkl')
test_evaluator = val_evaluator

max_epochs = 10
rise = 4
lr = 2e-4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
cosine = dict(by_epoch=True, convert_to_iter_based=True)
param_scheduler = [
    dict(cosine, type='CosineAnnealingLR', eta_min=lr * 10, begin=0, end=rise, T_max=rise),
    dict(cosine, type='CosineAnnealingLR', eta_min=lr * 1e-2, begin=rise, end=max_epochs, T_max=max_epochs - rise),
]
optim_wrapper = dict(optimizer=dict(lr=lr))
auto_scale_lr = dict(base_batch_size=2)
sync_bn = None
custom_hooks = []
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=10))
